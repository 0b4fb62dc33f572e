//! What flows where (kds-wire 4).
