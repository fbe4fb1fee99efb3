//! Command lines for the machine's shell.
//!
//! The login shell may be any (csh and fish too), so every script of ours is one argument of
//! `sh -c`, in single quotes, in one line.

/// In single quotes, as every shell understands them.
pub(crate) fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// A path in quotes; a leading `~/` is the login user's home.
pub(crate) fn quote_path(path: &str) -> String {
    match path.strip_prefix("~/") {
        Some("") => "\"$HOME\"".to_owned(),
        Some(rest) => format!("\"$HOME\"/{}", quote(rest)),
        None if path == "~" => "\"$HOME\"".to_owned(),
        // A path that begins with a dash is no option.
        None if path.starts_with('-') => format!("./{}", quote(path)),
        None => quote(path),
    }
}

/// The script as an argument of a POSIX shell.
pub(crate) fn posix(script: &str) -> String {
    format!("sh -c {}", quote(script))
}

/// A name that nothing else has: 16 hex digits.
pub(crate) fn nonce() -> String {
    use std::hash::{BuildHasher, Hasher};
    use std::sync::atomic::{AtomicU64, Ordering};
    static COUNT: AtomicU64 = AtomicU64::new(0);
    // The keys of the standard library's hasher are random per process and call.
    let mut hasher = std::hash::RandomState::new().build_hasher();
    hasher.write_u64(COUNT.fetch_add(1, Ordering::Relaxed));
    format!("{:016x}", hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_text_comes_back_from_a_shell() {
        for text in ["", "a b", "it's", "$HOME `x` \"y\" \\ \n !", "-n"] {
            let line = format!("printf %s {}", quote(text));
            let out = std::process::Command::new("sh").args(["-c", &line]).output().unwrap();
            assert_eq!(String::from_utf8(out.stdout).unwrap(), text);
        }
    }

    #[test]
    fn only_a_leading_tilde_is_the_home() {
        assert_eq!(quote_path("~/a b"), "\"$HOME\"/'a b'");
        assert_eq!(quote_path("/a/~/b"), "'/a/~/b'");
        assert_eq!(quote_path("-x"), "./'-x'");
    }

    #[test]
    fn nonces_differ() {
        assert_ne!(nonce(), nonce());
    }
}
