"""The types of imbalanced-learn and category_encoders that a skops artifact may contain.

They were reviewed like the types in `modeltrace.bundles.trusted_types`. Samplers only store their parameters: a
pipeline calls them in `fit`, not in `predict`. Not listed are

- `FunctionSampler`, which calls any function,
- `HashingEncoder`, which calls the function of `hashlib` that an attribute names, and starts processes,
- `GLMMEncoder`, which contains a result of statsmodels.
"""

from collections.abc import Mapping
from typing import Final

_SAMPLERS: Final = "imblearn.under_sampling._prototype_selection"
_CLASSES: Final[Mapping[str, tuple[str, ...]]] = {
    "imblearn.pipeline": ("Pipeline",),
    "imblearn.combine._smote_enn": ("SMOTEENN",),
    "imblearn.combine._smote_tomek": ("SMOTETomek",),
    "imblearn.ensemble._bagging": ("BalancedBaggingClassifier",),
    "imblearn.ensemble._easy_ensemble": ("EasyEnsembleClassifier",),
    "imblearn.ensemble._forest": ("BalancedRandomForestClassifier",),
    "imblearn.ensemble._weight_boosting": ("RUSBoostClassifier",),
    "imblearn.over_sampling._adasyn": ("ADASYN",),
    "imblearn.over_sampling._random_over_sampler": ("RandomOverSampler",),
    "imblearn.over_sampling._smote.base": ("SMOTE", "SMOTEN", "SMOTENC"),
    "imblearn.over_sampling._smote.cluster": ("KMeansSMOTE",),
    "imblearn.over_sampling._smote.filter": ("BorderlineSMOTE", "SVMSMOTE"),
    "imblearn.under_sampling._prototype_generation._cluster_centroids": ("ClusterCentroids",),
    f"{_SAMPLERS}._condensed_nearest_neighbour": ("CondensedNearestNeighbour",),
    f"{_SAMPLERS}._edited_nearest_neighbours": (
        "AllKNN",
        "EditedNearestNeighbours",
        "RepeatedEditedNearestNeighbours",
    ),
    f"{_SAMPLERS}._instance_hardness_threshold": ("InstanceHardnessThreshold",),
    f"{_SAMPLERS}._nearmiss": ("NearMiss",),
    f"{_SAMPLERS}._neighbourhood_cleaning_rule": ("NeighbourhoodCleaningRule",),
    f"{_SAMPLERS}._one_sided_selection": ("OneSidedSelection",),
    f"{_SAMPLERS}._random_under_sampler": ("RandomUnderSampler",),
    f"{_SAMPLERS}._tomek_links": ("TomekLinks",),
    "category_encoders.backward_difference": ("BackwardDifferenceEncoder",),
    "category_encoders.basen": ("BaseNEncoder",),
    "category_encoders.binary": ("BinaryEncoder",),
    "category_encoders.cat_boost": ("CatBoostEncoder",),
    "category_encoders.count": ("CountEncoder",),
    "category_encoders.count_target": ("CountTargetEncoder",),
    "category_encoders.gray": ("GrayEncoder",),
    "category_encoders.helmert": ("HelmertEncoder",),
    "category_encoders.james_stein": ("JamesSteinEncoder",),
    "category_encoders.leave_one_out": ("LeaveOneOutEncoder",),
    "category_encoders.m_estimate": ("MEstimateEncoder",),
    "category_encoders.multi_hot": ("MultiHotEncoder",),
    "category_encoders.one_hot": ("OneHotEncoder",),
    "category_encoders.ordinal": ("OrdinalEncoder",),
    "category_encoders.polynomial": ("PolynomialEncoder",),
    "category_encoders.quantile_encoder": ("QuantileEncoder", "SummaryEncoder"),
    "category_encoders.rankhot": ("RankHotEncoder",),
    "category_encoders.sum_coding": ("SumEncoder",),
    "category_encoders.target_encoder": ("TargetEncoder",),
    "category_encoders.woe": ("WOEEncoder",),
    "pandas": ("StringDtype",),  # the dtype of a column of texts
}
EXTENSION_TYPES: Final = frozenset(f"{module}.{name}" for module, names in _CLASSES.items() for name in names)
