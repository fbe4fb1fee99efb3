//! The login by NTLM: two messages of ours and one of the server's, in headers of HTTP.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ntlmclient::{
    Credentials, Flags, Message, NegotiateMessage, TargetInfoEntry, TargetInfoType,
    respond_challenge_ntlm_v2,
};

/// What is asked of the server: NTLM version 2 with text in UTF-16.
fn flags() -> Flags {
    Flags::NEGOTIATE_UNICODE
        | Flags::REQUEST_TARGET
        | Flags::NEGOTIATE_NTLM
        | Flags::NEGOTIATE_ALWAYS_SIGN
        | Flags::NEGOTIATE_NTLM2_KEY
        | Flags::NEGOTIATE_TARGET_INFO
        | Flags::NEGOTIATE_128BIT
        | Flags::NEGOTIATE_56BIT
}

/// The first message, as a header's value.
pub(crate) fn first() -> Result<String, String> {
    let message = Message::Negotiate(NegotiateMessage {
        flags: flags(),
        supplied_domain: String::new(),
        supplied_workstation: String::new(),
        os_version: Default::default(),
    });
    written(&message)
}

/// The answer to the server's challenge, as a header's value.
pub(crate) fn answer(offer: &str, user: &str, password: &str) -> Result<String, String> {
    let bytes = STANDARD.decode(offer.trim()).map_err(|e| format!("its challenge: {e}"))?;
    let message = Message::try_from(&bytes[..]).map_err(|e| format!("its challenge: {e:?}"))?;
    let Message::Challenge(challenge) = message else {
        return Err("it sent no challenge".into());
    };
    let (domain, name) = match user.split_once('\\') {
        Some((domain, name)) => (domain, name),
        None => ("", user),
    };
    let credentials = Credentials {
        username: name.to_owned(),
        password: password.to_owned(),
        domain: domain.to_owned(),
    };
    let entries = &challenge.target_information;
    let mut info: Vec<u8> = entries.iter().flat_map(TargetInfoEntry::to_bytes).collect();
    if entries.last().is_none_or(|entry| entry.entry_type != TargetInfoType::Terminator) {
        info.extend([0; 4]);
    }
    let told = time(entries);
    let now = told.unwrap_or_else(own_time);
    let mut response = respond_challenge_ntlm_v2(challenge.challenge, &info, now, &credentials);
    // No key is exchanged; and where the server tells its time, the old response has to be empty.
    response.session_key.clear();
    if told.is_some() {
        response.lm_response = vec![0; 24];
    }
    written(&response.to_message(&credentials, "KARAT", flags()))
}

/// The server's clock where it tells it: ours may be off.
fn time(entries: &[TargetInfoEntry]) -> Option<i64> {
    let entry = entries.iter().find(|entry| entry.entry_type == TargetInfoType::Timestamp)?;
    entry.data.get(..8)?.try_into().ok().map(i64::from_le_bytes)
}

/// Tenths of microseconds since 1601.
fn own_time() -> i64 {
    const UNTIL_1970: Duration = Duration::from_secs(11_644_473_600);
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() + UNTIL_1970;
    i64::try_from(since.as_nanos() / 100).unwrap_or_default()
}

fn written(message: &Message) -> Result<String, String> {
    let bytes = message.to_bytes().map_err(|e| format!("{e:?}"))?;
    Ok(format!("Negotiate {}", STANDARD.encode(bytes)))
}
