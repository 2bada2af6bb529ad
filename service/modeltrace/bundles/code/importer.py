"""Import the modules of a bundle under names of their own.

The modules of an archive are imported below a package whose name contains the SHA-256 of the archive. So two bundles
with different modules of one name can be loaded in one process, and no module replaces an installed one. An absolute
import in such a module (`import features`) finds the modules of the same archive first: the import function of the
modules changes the name. Pickles and skops files contain the original names; `OwnCode.internal_name` translates them.

The modules are compiled from the verified bytes. No file is written, and the bundle can be replaced later. Modules read
their data files with `importlib.resources` or `pkgutil.get_data`.
"""

import builtins
import importlib
import io
import sys
import zipfile
from collections.abc import Callable, Mapping, Sequence
from importlib.abc import InspectLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.resources.abc import Traversable, TraversableResources
from importlib.util import decode_source
from types import CodeType, ModuleType
from typing import Final

from joblib.externals.loky import cloudpickle_wrapper

from modeltrace.bundles.code.archive import CodeArchive

PACKAGE_PREFIX: Final = "modeltrace_code_"


class OwnCode:
    """The modules of one archive, ready to be imported."""

    def __init__(self, archive: CodeArchive, source: str) -> None:
        """Make the modules available to imports. The same archive is added to the import system once.

        Args:
            archive: the modules.
            source: the path of the archive, for stack traces.
        """
        self.sha256 = archive.sha256
        self._modules = archive.modules
        self._package = PACKAGE_PREFIX + archive.sha256[:16]
        if not any(isinstance(finder, _Finder) and finder.package == self._package for finder in sys.meta_path):
            sys.meta_path.append(_Finder(self._package, archive, source))
            _send_definitions(importlib.import_module(self._package))

    def contains(self, name: str) -> bool:
        """Return whether a module, type or function, given by its original dotted name, is part of the archive."""
        return name.partition(".")[0] in self._modules

    def internal_name(self, name: str) -> str:
        """Return the dotted name under which a part of the archive is imported, and other names unchanged."""
        return f"{self._package}.{name}" if self.contains(name) else name


def _send_definitions(package: ModuleType) -> None:
    """Let joblib send the definitions in a package to its worker processes, which cannot import it.

    joblib 1.6 uses the installed cloudpickle, and earlier versions a copy of their own.
    """
    sys.modules[cloudpickle_wrapper.dumps.__module__].register_pickle_by_value(package)


class _Finder(MetaPathFinder):
    """Finds the modules of an archive below their package."""

    def __init__(self, package: str, archive: CodeArchive, source: str) -> None:
        self.package = package
        self.files = archive.files
        self.zip_file = zipfile.ZipFile(io.BytesIO(archive.content))
        self.source = source
        self._modules = archive.modules
        self._folders = {"", *(name[:end] for name in self.files for end, letter in enumerate(name) if letter == "/")}

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,  # noqa: ARG002  a method of the interface
        target: ModuleType | None = None,  # noqa: ARG002  see above
    ) -> ModuleSpec | None:
        """Return the specification of a module of the archive, or `None`."""
        if fullname != self.package and not fullname.startswith(f"{self.package}."):
            return None
        name = fullname.removeprefix(self.package).lstrip(".").replace(".", "/")
        if f"{name}/__init__.py" in self.files:
            return self._spec(fullname, f"{name}/__init__.py", is_package=True)
        if f"{name}.py" in self.files:
            return self._spec(fullname, f"{name}.py", is_package=False)
        # The package itself, and folders without `__init__.py`.
        return self._spec(fullname, f"{name}/__init__.py", is_package=True) if name in self._folders else None

    def _spec(self, fullname: str, file: str, *, is_package: bool) -> ModuleSpec:
        loader = _Loader(self, file, is_package=is_package)
        spec = ModuleSpec(fullname, loader, origin=f"{self.source}/{file}", is_package=is_package)
        spec.has_location = True  # sets `__file__`
        return spec

    def import_module(
        self,
        name: str,
        globals: Mapping[str, object] | None = None,  # noqa: A002  the parameters of the built-in function
        locals: Mapping[str, object] | None = None,  # noqa: A002  see above
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        """Import like the built-in `__import__`; an absolute name is searched in the archive first."""
        first = name.partition(".")[0]
        if level or first not in self._modules:
            return builtins.__import__(name, globals, locals, fromlist or (), level)
        module = builtins.__import__(f"{self.package}.{name}", globals, locals, fromlist or (), 0)
        return module if fromlist else importlib.import_module(f"{self.package}.{first}")


def _no_loader() -> None:
    return None


class _Loader(InspectLoader):
    """Loads a module from memory."""

    def __init__(self, finder: _Finder, file: str, *, is_package: bool) -> None:
        self._finder = finder
        self._file = file
        self._is_package = is_package

    def __reduce__(self) -> tuple[Callable[[], None], tuple[()]]:
        """Pickle nothing: the copy of a module in a worker process of joblib has no loader."""
        return _no_loader, ()

    def is_package(self, fullname: str) -> bool:  # noqa: ARG002  a method of the interface
        """Return whether the module is a package."""
        return self._is_package

    def get_source(self, fullname: str) -> str:  # noqa: ARG002  a method of the interface
        """Return the source, which stack traces show. A folder without `__init__.py` has none."""
        return decode_source(self._finder.files.get(self._file, b""))

    def get_code(self, fullname: str) -> CodeType:  # noqa: ARG002  a method of the interface
        """Compile the module."""
        content = self._finder.files.get(self._file, b"")
        code: CodeType = compile(content, f"{self._finder.source}/{self._file}", "exec", dont_inherit=True)
        return code

    def get_data(self, path: str) -> bytes:
        """Return the content of a file, for `pkgutil.get_data`."""
        try:
            return self._finder.files[path.removeprefix(f"{self._finder.source}/")]
        except KeyError:
            raise FileNotFoundError(f"{path}: the code of the bundle contains no such file") from None

    def get_resource_reader(self, fullname: str) -> TraversableResources:  # noqa: ARG002  a method of the interface
        """Return the reader of the data files of a package, for `importlib.resources`."""
        return _Resources(self._finder.zip_file, self._file.rpartition("/")[0])

    def exec_module(self, module: ModuleType) -> None:
        """Run the module with an import function that knows the modules of the archive."""
        module.__dict__["__builtins__"] = {**vars(builtins), "__import__": self._finder.import_module}
        super().exec_module(module)


class _Resources(TraversableResources):
    """The data files of a package."""

    def __init__(self, archive: zipfile.ZipFile, folder: str) -> None:
        self._archive = archive
        self._folder = folder

    def files(self) -> Traversable:
        """Return the folder of the package."""
        return zipfile.Path(self._archive, f"{self._folder}/")
