//! The options of `file`.

use karat_config::Config;

/// Sends files and folders to the machine that is being built, or fetches them from it.
///
/// The machine's login user has to be allowed to write at the destination: to put a file at a
/// place that only root may write to, send it to `/tmp` first and move it with `shell`.
#[derive(Clone, Debug, Config)]
pub struct FileConfig {
    /// The file or folder to send (or to fetch, with `direction = "download"`).
    ///
    /// A folder written with a `/` at its end is copied by its contents; without it, the folder
    /// itself is copied into the destination, as rsync does it. To fetch a folder, write the `/`.
    #[option(input)]
    pub source: Option<String>,
    /// Several files and folders, treated as `source` one after the other.
    #[option(input)]
    pub sources: Vec<String>,
    /// The text of the file at the destination, instead of a file on this machine. Often made with
    /// `templatefile`.
    pub content: Option<String>,
    /// Where the file goes. With a `/` at its end it is a folder, and the file keeps its name.
    /// Folders on the machine have to exist; folders on this machine are made.
    #[option(required)]
    pub destination: String,
    /// `upload` to the machine, or `download` from it.
    #[option(default = "upload")]
    pub direction: String,
    /// The source is made by the build itself, by `shell-local` for example, so that it need not
    /// exist when the template is checked.
    pub generated: bool,
}
