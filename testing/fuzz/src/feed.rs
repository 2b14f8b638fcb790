//! Bytes as a row of decisions.

use mainstay_base::Entropy;

/// Takes decisions from the front of an input. When the bytes have run out every number is zero.
#[derive(Clone, Debug)]
pub struct Feed<'a> {
    rest: &'a [u8],
}

impl<'a> Feed<'a> {
    /// All of an input.
    #[must_use]
    pub fn new(data: &'a [u8]) -> Feed<'a> {
        Feed { rest: data }
    }

    /// Whether nothing is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.rest.split_first() else {
            return 0;
        };
        self.rest = rest;
        first
    }

    /// The next two bytes, little-endian.
    pub fn u16(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    /// The next eight bytes, little-endian.
    pub fn u64(&mut self) -> u64 {
        u64::from_le_bytes(std::array::from_fn(|_| self.byte()))
    }

    /// Bytes with their length, of two bytes, in front; fewer if the input ends.
    pub fn block(&mut self) -> &'a [u8] {
        let len = usize::from(self.u16()).min(self.rest.len());
        let (block, rest) = self.rest.split_at(len);
        self.rest = rest;
        block
    }

    /// All that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// Changes up to three places of `bytes`, as the next bytes of the input say.
    pub fn tamper(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..self.byte() % 4 {
            let (how, at, with) = (self.byte(), usize::from(self.u16()), self.byte());
            let Some(at) = at.checked_rem(bytes.len()) else {
                return;
            };
            match how % 5 {
                0 => bytes[at] = with,
                1 => bytes[at] ^= 1 << (with % 8),
                2 => bytes.insert(at, with),
                3 => drop(bytes.remove(at)),
                _ => bytes.truncate(at),
            }
        }
    }
}

/// Writes what a [`Feed`] reads: for making inputs.
#[derive(Clone, Debug, Default)]
pub struct Script(pub Vec<u8>);

impl Script {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Script {
        Script::default()
    }

    /// Appends bytes as they are.
    #[must_use]
    pub fn raw(mut self, bytes: &[u8]) -> Script {
        self.0.extend_from_slice(bytes);
        self
    }

    /// Appends bytes with their length in front, as [`Feed::block`] reads them; at most 65535.
    #[must_use]
    pub fn block(mut self, bytes: &[u8]) -> Script {
        let len = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
        self.0.extend_from_slice(&len.to_le_bytes());
        self.0.extend_from_slice(&bytes[..usize::from(len)]);
        self
    }
}

/// A variation of an input, as a fuzzer without any knowledge of coverage would try it.
#[must_use]
pub fn vary(input: &[u8], other: &[u8], entropy: &mut Entropy) -> Vec<u8> {
    const EDGES: [u8; 8] = [0, 1, 2, 0x7f, 0x80, 0xfe, 0xff, 0x10];
    let mut bytes = input.to_vec();
    for _ in 0..=entropy.below(4) {
        let len = bytes.len() as u64;
        if len == 0 {
            bytes.push(entropy.next_u64() as u8);
            continue;
        }
        let at = entropy.below(len) as usize;
        match entropy.below(9) {
            0 => bytes[at] ^= 1 << entropy.below(8),
            1 => bytes[at] = entropy.next_u64() as u8,
            2 => bytes[at] = EDGES[entropy.below(8) as usize],
            3 => bytes.insert(at, entropy.next_u64() as u8),
            4 => drop(bytes.remove(at)),
            5 => bytes.truncate(at),
            // The largest number that the codec can write, over what stands there.
            6 => {
                let end = bytes.len().min(at + 10);
                bytes[at..end].fill(0xff);
                bytes[end - 1] = 1;
            }
            7 => {
                let end = at + entropy.below(len - at as u64 + 1).min(64) as usize;
                let copy = bytes[at..end].to_vec();
                let to = entropy.below(len + 1) as usize;
                bytes.splice(to..to, copy);
            }
            _ if other.is_empty() => {}
            _ => {
                let from = entropy.below(other.len() as u64) as usize;
                let most = entropy.below((other.len() - from) as u64 + 1).min(256) as usize;
                let end = bytes.len().min(at + most);
                bytes.splice(at..end, other[from..from + most].iter().copied());
            }
        }
    }
    bytes
}

/// A message with the number at each place replaced by the ends of its range, one at a time, as the
/// codec writes them. What overflows is found so, and hardly ever by chance.
pub fn extremes(message: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    const ENDS: [&[u8]; 5] = [
        &[0],
        &[1],
        &[0xff, 0xff, 0x03],
        &[0xff, 0xff, 0xff, 0xff, 0x0f],
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
    ];
    (0..message.len()).flat_map(move |at| {
        let rest = &message[at..];
        let len = rest.iter().take_while(|byte| **byte >= 0x80).count() + 1;
        let after = &rest[len.min(rest.len())..];
        ENDS.map(|end| [&message[..at], end, after].concat())
    })
}
