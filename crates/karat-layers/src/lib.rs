//! Content-addressed layers: the store, the Debian bootstrap, imports of tars, disks and OCI images.
