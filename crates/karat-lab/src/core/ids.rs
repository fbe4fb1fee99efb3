//! Names of resources, tokens and keys.

/// Random bytes.
#[must_use]
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // Without randomness nothing of what follows could be trusted.
    getrandom::fill(&mut bytes).expect("the system gives random bytes");
    bytes
}

/// Bytes as hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A new id in AWS's form: the prefix and 17 hexadecimal digits.
#[must_use]
pub fn resource(prefix: &str) -> String {
    format!("{prefix}-{}", &hex(&random::<9>())[1..])
}

/// An id in AWS's form that is always the same for the same text.
#[must_use]
pub fn derived(prefix: &str, text: &str) -> String {
    use sha2::Digest;
    let digest = sha2::Sha256::digest(text.as_bytes());
    format!("{prefix}-{}", &hex(&digest)[..17])
}

/// A version 4 UUID.
#[must_use]
pub fn uuid() -> String {
    let mut bytes = random::<16>();
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let text = hex(&bytes);
    format!("{}-{}-{}-{}-{}", &text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..])
}

/// `length` random characters of `alphabet`.
#[must_use]
pub fn token(alphabet: &[u8], length: usize) -> String {
    let pick = |byte: u8| alphabet[usize::from(byte) % alphabet.len()] as char;
    (0..length).map(|_| pick(random::<1>()[0])).collect()
}

/// An access key's id with the prefix of its kind: `AKIA`, `ASIA`, `AROA`, `AIPA`, …
#[must_use]
pub fn unique(prefix: &str) -> String {
    format!("{prefix}{}", token(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", 17))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_amazons_form() {
        let id = resource("ami");
        assert_eq!(id.len(), 21);
        assert!(id[4..].chars().all(|c| c.is_ascii_hexdigit()), "{id}");
        assert_ne!(id, resource("ami"));
        assert_eq!(derived("ami", "x"), derived("ami", "x"));
        assert_eq!(uuid().len(), 36);
        assert_eq!(uuid().as_bytes()[14], b'4');
        assert_eq!(unique("AKIA").len(), 21);
    }
}
