//! What a builder, provisioner, post-processor, data source and communicator is.
