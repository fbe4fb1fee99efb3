//! Which archive and which compression a file name asks for.

use std::path::Path;

/// How several files become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Archive {
    /// They do not: there is a single one.
    None,
    Tar,
    Zip,
}

/// How bytes become fewer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    None,
    Gzip,
    Bgzf,
    Lz4,
    Xz,
    Zstd,
}

/// How an archive is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Format {
    pub(super) archive: Archive,
    pub(super) algorithm: Algorithm,
}

const TAR_GZ: Format = Format { archive: Archive::Tar, algorithm: Algorithm::Gzip };

impl Format {
    /// What `format` may say.
    pub(super) const NAMES: [&'static str; 12] = [
        "tar", "zip", "tar.gz", "tar.bgzf", "tar.lz4", "tar.xz", "tar.zst", "gz", "bgzf", "lz4",
        "xz", "zst",
    ];

    /// What the option `format` asks for.
    pub(super) fn exact(text: &str) -> Option<Self> {
        let text = text.trim_start_matches('.');
        let (tar, last) = match text.strip_prefix("tar.") {
            Some(last) => (true, last),
            None => (false, text),
        };
        match (tar, last) {
            (false, "tar") => Some(Self { archive: Archive::Tar, algorithm: Algorithm::None }),
            (false, "zip") => Some(Self { archive: Archive::Zip, algorithm: Algorithm::None }),
            (false, _) if short(last).is_some() => short(last),
            (tar, last) => {
                let archive = if tar { Archive::Tar } else { Archive::None };
                Some(Self { archive, algorithm: algorithm(last)? })
            }
        }
    }

    /// What a file's name asks for, by its last two endings.
    pub(super) fn of_name(path: &Path) -> Self {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut endings = name.split('.').skip(1).collect::<Vec<_>>();
        let last = endings.pop().unwrap_or_default();
        let tar = endings.pop() == Some("tar");
        let text =
            if tar && algorithm(last).is_some() { format!("tar.{last}") } else { last.into() };
        Self::exact(&text).unwrap_or(TAR_GZ)
    }

    /// Whether several files can go in.
    pub(super) fn holds_many(self) -> bool {
        self.archive != Archive::None
    }

    /// What Packer says before it compresses.
    pub(super) fn announce(self, threads: usize, output: &str) -> Option<String> {
        let (name, cores) = match self.algorithm {
            Algorithm::None => return None,
            Algorithm::Lz4 => (self.algorithm.name(), 1),
            other => (other.name(), threads),
        };
        let noun = if cores == 1 { "core" } else { "cores" };
        Some(format!("Using {name} compression with {cores} {noun} for {output}"))
    }

    /// What Packer says of what it does.
    pub(super) fn describe(self, output: &str, input: &str) -> String {
        match (self.archive, self.algorithm) {
            (Archive::Tar, Algorithm::None) => format!("Tarring {output} with no compression"),
            (Archive::Tar, algorithm) => format!("Tarring {output} with {}", algorithm.name()),
            (Archive::Zip, _) => format!("Zipping {output}"),
            (Archive::None, algorithm) => format!("Archiving {input} with {}", algorithm.name()),
        }
    }
}

impl Algorithm {
    /// The name in messages; Packer calls gzip on many cores `pgzip`.
    fn name(self) -> &'static str {
        match self {
            Self::None => "no compression",
            Self::Gzip => "pgzip",
            Self::Bgzf => "bgzf",
            Self::Lz4 => "lz4",
            Self::Xz => "xz",
            Self::Zstd => "zstd",
        }
    }
}

fn algorithm(ending: &str) -> Option<Algorithm> {
    Some(match ending {
        "gz" => Algorithm::Gzip,
        "bgzf" => Algorithm::Bgzf,
        "lz4" => Algorithm::Lz4,
        "xz" => Algorithm::Xz,
        "zst" | "zstd" => Algorithm::Zstd,
        _ => return None,
    })
}

/// Endings that say both at once.
fn short(ending: &str) -> Option<Format> {
    let algorithm = match ending {
        "tgz" => Algorithm::Gzip,
        "txz" => Algorithm::Xz,
        "tzst" => Algorithm::Zstd,
        _ => return None,
    };
    Some(Format { archive: Archive::Tar, algorithm })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_how_they_are_packed() {
        use Algorithm as A;
        for (name, archive, algorithm) in [
            ("packer_x_file", Archive::Tar, A::Gzip),
            ("a.tar.gz", Archive::Tar, A::Gzip),
            ("a.tgz", Archive::Tar, A::Gzip),
            ("dir.zip/a.tar", Archive::Tar, A::None),
            ("a-1.2.zip", Archive::Zip, A::None),
            ("a.tar.zip", Archive::Zip, A::None),
            ("a.img.xz", Archive::None, A::Xz),
            ("a.tar.lz4", Archive::Tar, A::Lz4),
            ("a.bgzf", Archive::None, A::Bgzf),
            ("a.tar.zst", Archive::Tar, A::Zstd),
            ("a.qcow2", Archive::Tar, A::Gzip),
        ] {
            assert_eq!(Format::of_name(Path::new(name)), Format { archive, algorithm }, "{name}");
        }
    }

    #[test]
    fn every_name_of_a_format_is_one() {
        for name in Format::NAMES {
            assert!(Format::exact(name).is_some(), "{name}");
        }
        for wrong in ["", "tar.tar", "tar.zip", "rar", "tar.", "gz.tar"] {
            assert_eq!(Format::exact(wrong), None, "{wrong}");
        }
    }
}
