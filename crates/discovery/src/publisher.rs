//! The end that tells: an xDS server for one stream (kds-wire 3.2, 3.8).
