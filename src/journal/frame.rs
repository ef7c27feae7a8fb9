//! The frames of which a segment consists, byte by byte, and the chain that binds their groups.
//!
//! All numbers are little-endian; a frame starts on a multiple of eight bytes of its file.
//!
//! ```text
//!  0          3      4          8                 16                24
//!  ├──────────┼──────┼──────────┼─────────────────┼─────────────────┼───────────────┬───────────┐
//!  │ length   │ kind │ CRC-32   │ sequence        │ group           │ payload       │ zeros     │
//!  │ u24      │ u8   │ u32      │ u64             │ u64             │ length bytes  │ 0–7 bytes │
//!  └──────────┴──────┴──────────┴─────────────────┴─────────────────┴───────────────┴───────────┘
//!  kind 1  a record: the payload is opaque here
//!  kind 2  abandoned: its author took the sequence and failed before it could publish; no payload
//!  kind 3  seal: ends a group; its sequence is the group's last, its payload is
//!
//!  24                32                40          44          48                            80
//!  ├─────────────────┼─────────────────┼───────────┼───────────┼─────────────────────────────┤
//!  │ first sequence  │ last sequence   │ frames    │ bytes     │ BLAKE3(hash of the seal     │
//!  │ u64             │ u64             │ u32       │ u32       │ before ‖ frames of the group)│
//!  └─────────────────┴─────────────────┴───────────┴───────────┴─────────────────────────────┘
//! ```
//!
//! The checksum covers the whole frame but itself and starts from the journal's [`Salt`], so that bytes which a
//! client chose can never look like a frame, nor can a frame of another journal. 24 zero bytes end the log.

use crate::limits::RECORD_BYTES_MAX;

/// Bytes before the payload.
pub(super) const FRAME_HEADER_BYTES: usize = 24;
/// Bytes of a whole seal.
pub(super) const SEAL_BYTES: usize = FRAME_HEADER_BYTES + SEAL_PAYLOAD_BYTES;
/// Bytes of the longest frame.
pub(super) const FRAME_BYTES_MAX: usize = frame_bytes(RECORD_BYTES_MAX);
/// Every frame starts on a multiple of this.
pub(super) const FRAME_ALIGNMENT: usize = 8;

const SEAL_PAYLOAD_BYTES: usize = 56;

const _: () = assert!(RECORD_BYTES_MAX < 1 << 24, "a payload's length has 24 bits");
const _: () = assert!(RECORD_BYTES_MAX >= SEAL_PAYLOAD_BYTES);
const _: () = assert!(SEAL_BYTES.is_multiple_of(FRAME_ALIGNMENT));

/// Head of the chain: the hash in the newest seal, or the journal's own beginning.
pub(super) type ChainHash = [u8; 32];

/// What every checksum of one journal starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Salt(pub(super) u32);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Record = 1,
    Abandoned = 2,
    Seal = 3,
}

/// A frame whose checksum holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame<'a> {
    pub(super) kind: Kind,
    pub(super) sequence: u64,
    pub(super) group: u64,
    pub(super) payload: &'a [u8],
    /// Length with header and padding, in bytes.
    pub(super) bytes: usize,
}

/// What a seal says of the group before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seal {
    pub(super) first_sequence: u64,
    pub(super) last_sequence: u64,
    pub(super) frames: u32,
    pub(super) bytes: u32,
    pub(super) hash: ChainHash,
}

/// Length of a frame with a payload of `payload_bytes`.
pub(super) const fn frame_bytes(payload_bytes: usize) -> usize {
    (FRAME_HEADER_BYTES + payload_bytes).next_multiple_of(FRAME_ALIGNMENT)
}

/// Appends one frame to `out`. The caller keeps `payload` within [`RECORD_BYTES_MAX`].
pub(super) fn append(out: &mut Vec<u8>, salt: Salt, kind: Kind, sequence: u64, group: u64, payload: &[u8]) {
    assert!(payload.len() <= RECORD_BYTES_MAX, "the journal thread refuses longer payloads before this");
    let start = out.len();
    out.extend_from_slice(&(payload.len() as u32 | (kind as u32) << 24).to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&sequence.to_le_bytes());
    out.extend_from_slice(&group.to_le_bytes());
    out.extend_from_slice(payload);
    out.resize(start + frame_bytes(payload.len()), 0);
    let crc = checksum(&out[start..], salt);
    out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
}

/// Appends the seal of group `group`.
pub(super) fn append_seal(out: &mut Vec<u8>, salt: Salt, group: u64, seal: &Seal) {
    let mut payload = [0; SEAL_PAYLOAD_BYTES];
    payload[0..8].copy_from_slice(&seal.first_sequence.to_le_bytes());
    payload[8..16].copy_from_slice(&seal.last_sequence.to_le_bytes());
    payload[16..20].copy_from_slice(&seal.frames.to_le_bytes());
    payload[20..24].copy_from_slice(&seal.bytes.to_le_bytes());
    payload[24..56].copy_from_slice(&seal.hash);
    append(out, salt, Kind::Seal, seal.last_sequence, group, &payload);
}

/// The frame at the start of `bytes`, if there is a whole one and its checksum holds.
pub(super) fn parse(bytes: &[u8], salt: Salt) -> Option<Frame<'_>> {
    let frame = checked(bytes)?;
    let whole = &bytes[..frame.bytes];
    (checksum(whole, salt) == u32_at(whole, 4)).then_some(frame)
}

/// The frame at the start of `bytes`, whose checksum [`parse`] has seen to hold.
pub(super) fn checked(bytes: &[u8]) -> Option<Frame<'_>> {
    let word = u32::from_le_bytes(bytes.get(0..4)?.try_into().ok()?);
    let kind = match word >> 24 {
        1 => Kind::Record,
        2 => Kind::Abandoned,
        3 => Kind::Seal,
        _ => return None,
    };
    let payload_bytes = (word & 0x00FF_FFFF) as usize;
    let expected = match kind {
        Kind::Record => payload_bytes <= RECORD_BYTES_MAX,
        Kind::Abandoned => payload_bytes == 0,
        Kind::Seal => payload_bytes == SEAL_PAYLOAD_BYTES,
    };
    if !expected {
        return None;
    }
    let whole = bytes.get(..frame_bytes(payload_bytes))?;
    Some(Frame {
        kind,
        sequence: u64_at(whole, 8),
        group: u64_at(whole, 16),
        payload: &whole[FRAME_HEADER_BYTES..FRAME_HEADER_BYTES + payload_bytes],
        bytes: whole.len(),
    })
}

impl Frame<'_> {
    /// Reads this frame as a seal; `None` where it is none.
    pub(super) fn seal(&self) -> Option<Seal> {
        if self.kind != Kind::Seal {
            return None;
        }
        Some(Seal {
            first_sequence: u64_at(self.payload, 0),
            last_sequence: u64_at(self.payload, 8),
            frames: u32_at(self.payload, 16),
            bytes: u32_at(self.payload, 20),
            hash: hash_at(self.payload, 24),
        })
    }
}

/// The chain's next hash: that of the seal before, and the frames of the group without their seal.
pub(super) fn chain(previous: &ChainHash, frames: &[u8]) -> ChainHash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(previous);
    hasher.update(frames);
    *hasher.finalize().as_bytes()
}

/// The little-endian number at `offset`; the caller has checked the length.
pub(super) fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[offset..offset + 4]);
    u32::from_le_bytes(word)
}

/// The little-endian number at `offset`; the caller has checked the length.
pub(super) fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[offset..offset + 8]);
    u64::from_le_bytes(word)
}

/// The hash at `offset`; the caller has checked the length.
pub(super) fn hash_at(bytes: &[u8], offset: usize) -> ChainHash {
    let mut hash = [0; 32];
    hash.copy_from_slice(&bytes[offset..offset + 32]);
    hash
}

fn checksum(whole: &[u8], salt: Salt) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(salt.0);
    hasher.update(&whole[..4]);
    hasher.update(&whole[8..]);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_flipped_bit_of_a_frame_is_seen() {
        let mut bytes = Vec::new();
        append(&mut bytes, Salt(7), Kind::Record, 3, 2, b"a payload");
        assert_eq!(bytes.len(), 40);
        assert_eq!(parse(&bytes, Salt(7)).map(|frame| frame.payload), Some(&b"a payload"[..]));
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(parse(&bytes, Salt(7)).is_none(), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn a_frame_of_another_journal_is_none_of_ours() {
        let mut bytes = Vec::new();
        append(&mut bytes, Salt(7), Kind::Record, 3, 2, b"a payload");
        assert!(parse(&bytes, Salt(8)).is_none());
    }

    #[test]
    fn a_seal_reads_back_as_it_was_written() {
        let seal = Seal { first_sequence: 5, last_sequence: 9, frames: 5, bytes: 200, hash: [9; 32] };
        let mut bytes = Vec::new();
        append_seal(&mut bytes, Salt(1), 4, &seal);
        assert_eq!(bytes.len(), SEAL_BYTES);
        let frame = parse(&bytes, Salt(1)).expect("a whole frame");
        assert_eq!((frame.sequence, frame.group, frame.seal()), (9, 4, Some(seal)));
    }
}
