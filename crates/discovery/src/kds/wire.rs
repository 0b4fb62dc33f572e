//! Under which name and in which bytes a resource crosses (kds-wire 3.4 to 3.7, 4.3, 4.4).
