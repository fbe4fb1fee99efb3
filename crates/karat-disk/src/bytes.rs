//! Numbers in and out of byte buffers at fixed offsets.

pub(crate) fn put16(buffer: &mut [u8], at: usize, value: u16) {
    buffer[at..at + 2].copy_from_slice(&value.to_le_bytes());
}

pub(crate) fn put32(buffer: &mut [u8], at: usize, value: u32) {
    buffer[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

pub(crate) fn put64(buffer: &mut [u8], at: usize, value: u64) {
    buffer[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

pub(crate) fn put32_be(buffer: &mut [u8], at: usize, value: u32) {
    buffer[at..at + 4].copy_from_slice(&value.to_be_bytes());
}

pub(crate) fn put64_be(buffer: &mut [u8], at: usize, value: u64) {
    buffer[at..at + 8].copy_from_slice(&value.to_be_bytes());
}

/// Reads `N` bytes; zeros where the buffer is too short, so that damaged input cannot panic.
fn array<const N: usize>(buffer: &[u8], at: usize) -> [u8; N] {
    let mut out = [0u8; N];
    if let Some(bytes) = buffer.get(at..at.saturating_add(N)) {
        out.copy_from_slice(bytes);
    }
    out
}

pub(crate) fn get16(buffer: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(array(buffer, at))
}

pub(crate) fn get32(buffer: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array(buffer, at))
}

pub(crate) fn get64(buffer: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array(buffer, at))
}

pub(crate) fn get32_be(buffer: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(array(buffer, at))
}

pub(crate) fn get64_be(buffer: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(array(buffer, at))
}
