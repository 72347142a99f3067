"""Studies: tuning any experiment with Optuna, on its validation metric.

- :func:`search`: run a study, or continue it
- :func:`default_space`, :data:`PRESETS`, :func:`preset_space`: where to look
- :class:`Report`: what was found
"""

from pyg_bsl.tuning.presets import PRESETS, preset_space
from pyg_bsl.tuning.report import Report
from pyg_bsl.tuning.search import retrain, run, search
from pyg_bsl.tuning.spaces import default_space

__all__ = ["PRESETS", "Report", "default_space", "preset_space", "retrain", "run", "search"]
