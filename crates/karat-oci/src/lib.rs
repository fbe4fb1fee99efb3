//! Images of container registries, brought into a folder in the OCI image layout.
//!
//! An image is named as `docker pull` names it, with `docker://` in front where a path could stand
//! as well: `docker://debian:13`, `docker://registry.example.com:5000/team/base@sha256:…`. What is
//! in the folder already is not fetched again, and everything is checked against its digest.
//!
//! Formats: the OCI image specification 1.1 and the OCI distribution specification 1.1.

mod credentials;
mod pull;

pub use pull::{Progress, Pull, Pulled, pull};

/// What an address of a registry begins with.
pub const SCHEME: &str = "docker://";

/// Why an image cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum OciError {
    /// The name of the image is none.
    #[error("\"{name}\" names no image: {reason}")]
    Name {
        /// What was given.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The registry refused, or cannot be reached.
    #[error("cannot fetch {image}: {reason}")]
    Registry {
        /// The image, with its registry.
        image: String,
        /// What the registry said.
        reason: String,
    },
    /// The folder cannot be used.
    #[error("cannot {what}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: std::io::Error,
    },
}

/// Whether a source of an image is an address of a registry, and no path.
#[must_use]
pub fn is_address(source: &str) -> bool {
    source.starts_with(SCHEME)
}

/// Checks an address without asking anybody.
///
/// # Errors
/// When it names no image.
pub fn check(address: &str) -> Result<(), OciError> {
    parse(address).map(drop)
}

fn parse(address: &str) -> Result<oci_client::Reference, OciError> {
    let name = address.strip_prefix(SCHEME).unwrap_or(address);
    name.parse().map_err(|error: oci_client::ParseError| OciError::Name {
        name: address.to_owned(),
        reason: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_docker_pull() {
        let whole = |text: &str| parse(text).unwrap().whole();
        assert_eq!(whole("docker://debian"), "docker.io/library/debian:latest");
        assert_eq!(whole("docker://debian:13"), "docker.io/library/debian:13");
        assert_eq!(whole("docker://r.example:5000/a/b:c"), "r.example:5000/a/b:c");
        let digest = format!("sha256:{}", "0".repeat(64));
        assert_eq!(whole(&format!("docker://q.io/a@{digest}")), format!("q.io/a@{digest}"));
        for wrong in ["docker://", "docker://Debian", "docker://a:b:c", "docker://a@sha256:1"] {
            let error = check(wrong).unwrap_err().to_string();
            assert!(error.starts_with(&format!("\"{wrong}\" names no image: ")), "{error}");
        }
    }
}
