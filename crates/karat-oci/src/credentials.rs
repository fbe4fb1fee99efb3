//! Who asks: the logins that `docker login` and `podman login` keep.

use std::fs::File;
use std::path::{Path, PathBuf};

use docker_credential::{CredentialRetrievalError, DockerCredential};
use oci_client::secrets::RegistryAuth;

/// The registry that a name without one means, and what its login is kept under.
const HUB: &str = "docker.io";
const HUB_LOGIN: &str = "https://index.docker.io/v1/";

/// The files of logins, the first that knows the registry counts.
pub(crate) fn files(folder: Option<&Path>) -> Vec<PathBuf> {
    if let Some(folder) = folder {
        return vec![folder.join("config.json")];
    }
    let path = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let below = |name: &str, rest: &str| path(name).map(|folder| folder.join(rest));
    [
        path("REGISTRY_AUTH_FILE"),
        below("DOCKER_CONFIG", "config.json"),
        below("HOME", ".docker/config.json"),
        below("XDG_RUNTIME_DIR", "containers/auth.json"),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The login for a registry; nobody's where there is none.
pub(crate) fn of(registry: &str, files: &[PathBuf]) -> RegistryAuth {
    let server = if registry == HUB { HUB_LOGIN } else { registry };
    for path in files {
        let Ok(file) = File::open(path) else { continue };
        match docker_credential::get_credential_from_reader(file, server) {
            Ok(DockerCredential::UsernamePassword(name, password)) => {
                return RegistryAuth::Basic(name, password);
            }
            Ok(DockerCredential::IdentityToken(token)) => return RegistryAuth::Bearer(token),
            Err(CredentialRetrievalError::NoCredentialConfigured) => {}
            Err(error) => {
                tracing::warn!(path = %path.display(), ?error, "logins of registries: unreadable");
            }
        }
    }
    RegistryAuth::Anonymous
}
