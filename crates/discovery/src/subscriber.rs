//! The end that is told: an xDS client for one stream (kds-wire 3.2, 3.3, 3.8).
