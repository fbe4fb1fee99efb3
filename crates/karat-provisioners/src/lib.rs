//! The built-in provisioners.
