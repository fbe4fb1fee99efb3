//! Encryption of what passes through a session, by a key of KMS: AES-256-GCM, the nonce of 12
//! bytes in front. The data key has 64 bytes; each direction has half of it.

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::SsmError;
use crate::reliable::Side;

/// Length of the data key in bytes.
pub(crate) const KEY_BYTES: usize = 64;

/// Both directions of a session.
pub(crate) struct Cipher {
    seals: LessSafeKey,
    opens: LessSafeKey,
    random: SystemRandom,
}

impl Cipher {
    /// The agent encrypts with the first half of the data key, the client with the second.
    pub(crate) fn new(side: Side, key: &[u8]) -> Result<Self, SsmError> {
        let wrong = || {
            SsmError::Handshake(format!("the data key has {} bytes, not {KEY_BYTES}", key.len()))
        };
        if key.len() != KEY_BYTES {
            return Err(wrong());
        }
        let half = |part: &[u8]| UnboundKey::new(&AES_256_GCM, part).map(LessSafeKey::new);
        let (agents, clients) = key.split_at(KEY_BYTES / 2);
        let (agents, clients) =
            (half(agents).map_err(|_| wrong())?, half(clients).map_err(|_| wrong())?);
        let (seals, opens) = match side {
            Side::Client => (clients, agents),
            Side::Agent => (agents, clients),
        };
        Ok(Self { seals, opens, random: SystemRandom::new() })
    }

    pub(crate) fn seal(&self, plain: &[u8]) -> Result<Vec<u8>, SsmError> {
        let failed = |_| SsmError::Protocol("a message could not be encrypted".into());
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).map_err(failed)?;
        let mut sealed = plain.to_vec();
        let unique = Nonce::assume_unique_for_key(nonce);
        self.seals.seal_in_place_append_tag(unique, Aad::empty(), &mut sealed).map_err(failed)?;
        Ok([&nonce[..], &sealed].concat())
    }

    pub(crate) fn open(&self, sealed: &[u8]) -> Result<Vec<u8>, SsmError> {
        let failed = || SsmError::Protocol("a message could not be decrypted".into());
        let (nonce, rest) = sealed.split_at_checked(NONCE_LEN).ok_or_else(failed)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| failed())?;
        let mut rest = rest.to_vec();
        let plain =
            self.opens.open_in_place(nonce, Aad::empty(), &mut rest).map_err(|_| failed())?;
        Ok(plain.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_side_reads_the_other() {
        let key: Vec<u8> = (0..64).collect();
        let client = Cipher::new(Side::Client, &key).unwrap();
        let agent = Cipher::new(Side::Agent, &key).unwrap();
        for text in [&b""[..], b"to and fro"] {
            assert_eq!(agent.open(&client.seal(text).unwrap()).unwrap(), text);
            assert_eq!(client.open(&agent.seal(text).unwrap()).unwrap(), text);
        }
        let mut sealed = client.seal(b"x").unwrap();
        assert_ne!(sealed, client.seal(b"x").unwrap(), "the nonce is new each time");
        assert!(client.open(&sealed).is_err(), "one's own messages are the other's to read");
        sealed[13] ^= 1;
        assert!(agent.open(&sealed).is_err());
        assert!(agent.open(b"short").is_err());
        assert!(Cipher::new(Side::Client, &key[1..]).is_err());
    }
}
