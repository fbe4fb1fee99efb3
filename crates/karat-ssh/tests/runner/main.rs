//! Everything against a real OpenSSH server.

mod common;

mod exec;
mod files;
mod login;
mod loss;
mod tunnels;
