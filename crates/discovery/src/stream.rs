//! Drives the two ends over a gRPC stream. The only file that reads or writes one.
