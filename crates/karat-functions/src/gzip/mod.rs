//! gzip with the very bytes that Go's standard library writes: one write, a flush, a
//! close.
//!
//! Templates pass this on as user data, where other bytes mean another fingerprint, and
//! a changed instance. No library compresses to the same bytes, so the algorithm stands
//! here: lazy matching over hash chains at level 6 ([`matcher`]), then blocks stored or
//! with fixed or dynamic Huffman codes ([`huffman`]), whichever is shortest.

mod huffman;
mod matcher;

/// Compresses with gzip.
pub(crate) fn gzip(data: &[u8]) -> Vec<u8> {
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
    out.extend(matcher::deflate(data));
    let mut crc = flate2::Crc::new();
    crc.update(data);
    out.extend(crc.sum().to_le_bytes());
    out.extend((data.len() as u32).to_le_bytes());
    out
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    /// Data that repeats at many distances.
    fn text(length: usize) -> Vec<u8> {
        let mut state = 12_345_u32;
        let mut out = Vec::with_capacity(length);
        while out.len() < length {
            state = state.wrapping_mul(1_103_515_245).wrapping_add(12_345);
            let start = (state >> 8) as usize % (out.len() + 1);
            let count = 3 + (state >> 4) as usize % 40;
            if state.is_multiple_of(3) || start + count > out.len() {
                out.push((state >> 16) as u8 % 64 + 32);
            } else {
                out.extend_from_within(start..start + count);
            }
        }
        out.truncate(length);
        out
    }

    #[test]
    fn reads_back() {
        for length in [0, 1, 3, 4, 100, 5_000, 65_535, 65_536, 66_000, 100_000, 300_000] {
            let data = text(length);
            let mut back = Vec::new();
            flate2::read::GzDecoder::new(gzip(&data).as_slice()).read_to_end(&mut back).unwrap();
            assert!(back == data, "{length} bytes");
        }
    }

    #[test]
    fn noise_is_stored() {
        let mut state = 1_u64;
        let data: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        })
        .take(40_000)
        .collect();
        let packed = gzip(&data);
        assert!(packed.len() < data.len() + 100);
        let mut back = Vec::new();
        flate2::read::GzDecoder::new(packed.as_slice()).read_to_end(&mut back).unwrap();
        assert!(back == data);
    }
}
