"""The types that a skops artifact may contain.

skops itself trusts scikit-learn's public estimators, NumPy and SciPy ufuncs, containers and arrays. The list adds the
internal types that fitted scikit-learn estimators contain.

While an artifact is loaded, it can call each listed name with any arguments, but it cannot choose a method. The source
of each name was reviewed for this case: the classes only store their arguments, and the functions compute numbers from
arrays that they validate. None of them opens a file, imports a name from a string, or calls a method whose name comes
from the file. scikit-learn's scorers call such methods, so they are not listed. Therefore, a search or a tuned
threshold inside another estimator is not supported.

Only the operator can trust other types; a bundle cannot.
"""

from collections.abc import Sequence

from modeltrace.bundles.skops_io import skops_io
from modeltrace.bundles.trusted_extensions import EXTENSION_TYPES

REVIEWED_TYPES: frozenset[str] = EXTENSION_TYPES | frozenset(
    {
        # trees, forests, boosting; modeltrace.bundles.tree_validation validates their content
        "sklearn.tree._tree.Tree",
        "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
        # the preprocessing of categories in histogram boosting: a partial of check_array
        "functools.partial",
        "sklearn.utils.validation.check_array",
        # neural networks
        "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
        "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
        # calibration, multi-class by output codes, stacking and voting
        "sklearn.calibration._CalibratedClassifier",
        "sklearn.calibration._SigmoidCalibration",
        "sklearn.calibration._TemperatureScaling",
        "sklearn.multiclass._ConstantPredictor",
        "sklearn.utils._bunch.Bunch",
        # linear models
        "sklearn._loss.loss.HalfTweedieLoss",
        "sklearn._loss.loss.HalfTweedieLossIdentity",
        # Gaussian processes
        "sklearn.gaussian_process._gpc._BinaryGaussianProcessClassifierLaplace",
        "sklearn.gaussian_process.kernels.ConstantKernel",
        "sklearn.gaussian_process.kernels.DotProduct",
        "sklearn.gaussian_process.kernels.ExpSineSquared",
        "sklearn.gaussian_process.kernels.Exponentiation",
        "sklearn.gaussian_process.kernels.Matern",
        "sklearn.gaussian_process.kernels.PairwiseKernel",
        "sklearn.gaussian_process.kernels.Product",
        "sklearn.gaussian_process.kernels.RBF",
        "sklearn.gaussian_process.kernels.RationalQuadratic",
        "sklearn.gaussian_process.kernels.Sum",
        "sklearn.gaussian_process.kernels.WhiteKernel",
        # nearest neighbours; without PyFuncDistance, which calls any function
        "sklearn.neighbors._ball_tree.BallTree",
        "sklearn.neighbors._kd_tree.KDTree",
        "sklearn.metrics._dist_metrics.BrayCurtisDistance64",
        "sklearn.metrics._dist_metrics.CanberraDistance64",
        "sklearn.metrics._dist_metrics.ChebyshevDistance64",
        "sklearn.metrics._dist_metrics.EuclideanDistance64",
        "sklearn.metrics._dist_metrics.HammingDistance64",
        "sklearn.metrics._dist_metrics.HaversineDistance64",
        "sklearn.metrics._dist_metrics.MahalanobisDistance64",
        "sklearn.metrics._dist_metrics.ManhattanDistance64",
        "sklearn.metrics._dist_metrics.MinkowskiDistance64",
        "sklearn.metrics._dist_metrics.SEuclideanDistance64",
        # preprocessing and selection
        "numpy.dtype",
        "numpy.max",
        "numpy.mean",
        "numpy.median",
        "numpy.min",
        "scipy._lib.array_api_compat.numpy._aliases.asarray",
        "scipy.interpolate._bsplines.BSpline",
        "scipy.interpolate._bsplines._BSpline",  # part of BSpline since SciPy 1.18
        "scipy.sparse._csr.csr_matrix",
        "sklearn.feature_selection._mutual_info.mutual_info_classif",
        "sklearn.feature_selection._mutual_info.mutual_info_regression",
        "sklearn.feature_selection._univariate_selection.chi2",
        "sklearn.feature_selection._univariate_selection.f_classif",
        "sklearn.feature_selection._univariate_selection.f_regression",
        "sklearn.feature_selection._univariate_selection.r_regression",
        "sklearn.impute._iterative.IterativeImputer",
        "sklearn.impute._iterative._ImputerTriplet",
        # three regressors
        "modeltrace.bundles.quantile_models.IntervalRegressor",
        # proxies, which validate their content before they build anything
        "modeltrace.bundles.proxies.native_models.NativeModel",
        "modeltrace.bundles.proxies.pandas_data.PandasArray",
        "modeltrace.bundles.proxies.pandas_data.PandasData",
    }
)


def untrusted_types(artifact: bytes, allowed: Sequence[str] = ()) -> list[str]:
    """Return the types in a skops artifact that are not trusted by skops, the list or `allowed`. Build nothing."""
    return sorted(set(skops_io.get_untrusted_types(data=artifact)) - REVIEWED_TYPES - set(allowed))
