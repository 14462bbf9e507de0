"""The checker that tests put behind the annotations: as Python reads them, an int is a float."""

from beartype import BeartypeConf, beartype

typecheck = beartype(conf=BeartypeConf(is_pep484_tower=True))
