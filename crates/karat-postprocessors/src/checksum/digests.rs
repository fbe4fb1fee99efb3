//! Several digests of a file in one pass.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use karat_component::{ComponentError, Events};
use sha2::digest::DynDigest;
use tokio_util::sync::CancellationToken;

use crate::work;
use crate::written::cannot_read;

/// How much is read at once.
const PIECE: usize = 1 << 20;
/// How many pieces may wait for the slowest digest.
const AHEAD: usize = 4;
/// From which size on it is told how far it got.
const BIG: u64 = 64 << 20;

/// A digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Md5,
    Sha1,
    Sha224,
    Sha256,
    Sha384,
    Sha512,
}

impl Kind {
    pub(crate) const NAMES: [&'static str; 6] =
        ["md5", "sha1", "sha224", "sha256", "sha384", "sha512"];
    const ALL: [Self; 6] =
        [Self::Md5, Self::Sha1, Self::Sha224, Self::Sha256, Self::Sha384, Self::Sha512];

    pub(crate) fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    pub(crate) fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }

    fn start(self) -> Box<dyn DynDigest + Send> {
        match self {
            Self::Md5 => Box::new(md5::Md5::default()),
            Self::Sha1 => Box::new(sha1::Sha1::default()),
            Self::Sha224 => Box::new(sha2::Sha224::default()),
            Self::Sha256 => Box::new(sha2::Sha256::default()),
            Self::Sha384 => Box::new(sha2::Sha384::default()),
            Self::Sha512 => Box::new(sha2::Sha512::default()),
        }
    }
}

/// The digests of a file in hexadecimal, in the order of `kinds`. The file is read once, and each
/// digest has a thread.
pub(crate) fn of(
    path: &Path,
    kinds: &[Kind],
    events: &Events,
    cancel: &CancellationToken,
) -> Result<Vec<String>, ComponentError> {
    let failed = |e| cannot_read(path, e);
    let mut file = File::open(path).map_err(failed)?;
    let size = file.metadata().map_err(failed)?.len();
    let what = format!("reading {}", path.display());
    std::thread::scope(|scope| {
        let workers: Vec<_> = kinds
            .iter()
            .map(|kind| {
                let (send, receive) = sync_channel::<Arc<Vec<u8>>>(AHEAD);
                let mut digest = kind.start();
                let thread = scope.spawn(move || {
                    for piece in receive {
                        digest.update(&piece);
                    }
                    hex(&digest.finalize())
                });
                (send, thread)
            })
            .collect();
        let mut done = 0;
        loop {
            work::check(cancel).map_err(failed)?;
            let mut piece =
                Vec::with_capacity(PIECE.min(usize::try_from(size).unwrap_or(PIECE) + 1));
            let limit = piece.capacity() as u64;
            let count = (&mut file).take(limit).read_to_end(&mut piece).map_err(failed)?;
            if count == 0 {
                break;
            }
            let piece = Arc::new(piece);
            for (send, _) in &workers {
                // A thread ends only when its channel is closed.
                let _ = send.send(Arc::clone(&piece));
            }
            done += count as u64;
            if size >= BIG {
                events.progress(&what, done, Some(size), "bytes");
            }
        }
        workers
            .into_iter()
            .map(|(send, thread)| {
                drop(send);
                thread.join().map_err(|_| ComponentError::new("a digest ended abnormally"))
            })
            .collect()
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}
