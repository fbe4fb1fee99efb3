//! Finding repetitions: hash chains over a sliding window, one step of laziness.

use super::huffman::{BitWriter, Token};

const WINDOW: usize = 1 << 15;
/// The shortest repetition that is used.
const MIN_MATCH: usize = 4;
const MAX_MATCH: usize = 258;
/// The most tokens in a block.
const BLOCK_TOKENS: usize = 1 << 14;
const HASH_BITS: u32 = 17;

// Level 6.
/// A match of this length is taken without looking for a better one after it.
const LAZY: usize = 16;
/// A match of this length ends the search.
const NICE: usize = 128;
/// How many candidates are looked at.
const CHAIN: usize = 128;

/// Positions are counted from the start of the data. The window of the original is
/// refilled in steps, and what it has dropped is out of reach: `base` is where it begins.
struct Matcher<'d> {
    data: &'d [u8],
    base: usize,
    /// The end of what has been filled in.
    filled: usize,
    index: usize,
    /// Where the tokens of the open block begin; `None` when the window has dropped it.
    block_start: Option<usize>,
    /// A byte before `index` waits to be written or to become part of a match.
    pending: bool,
    length: usize,
    offset: usize,
    tokens: Vec<Token>,
    /// The last position with a hash, plus one.
    heads: Vec<usize>,
    /// The position before with the same hash, plus one.
    previous: Vec<usize>,
    out: BitWriter,
}

/// Compresses data, flushes and closes.
pub(super) fn deflate(data: &[u8]) -> Vec<u8> {
    let mut matcher = Matcher {
        data,
        base: 0,
        filled: 0,
        index: 0,
        block_start: Some(0),
        pending: false,
        length: MIN_MATCH - 1,
        offset: 0,
        tokens: Vec::with_capacity(BLOCK_TOKENS),
        heads: vec![0; 1 << HASH_BITS],
        previous: vec![0; WINDOW],
        out: BitWriter::default(),
    };
    while matcher.filled < data.len() {
        matcher.step(false);
        matcher.fill();
    }
    matcher.step(true);
    matcher.out.stored_header(0, false);
    matcher.out.stored_header(0, true);
    matcher.out.finish()
}

impl Matcher<'_> {
    fn fill(&mut self) {
        if self.index - self.base >= 2 * WINDOW - (MIN_MATCH + MAX_MATCH) {
            self.base += WINDOW;
            self.block_start = self.block_start.filter(|start| *start >= self.base);
        }
        self.filled = self.data.len().min(self.base + 2 * WINDOW);
    }

    fn hash(&self, at: usize) -> usize {
        let bytes = [self.data[at], self.data[at + 1], self.data[at + 2], self.data[at + 3]];
        (u32::from_be_bytes(bytes).wrapping_mul(0x1e35_a7bd) >> (32 - HASH_BITS)) as usize
    }

    /// Notes a position and gives the one before with the same hash.
    fn insert(&mut self, at: usize) -> Option<usize> {
        let hash = self.hash(at);
        let head = self.heads[hash];
        self.previous[at % WINDOW] = head;
        self.heads[hash] = at + 1;
        head.checked_sub(1)
    }

    fn step(&mut self, flush: bool) {
        if self.filled - self.index < MIN_MATCH + MAX_MATCH && !flush {
            return;
        }
        // The last bytes of what is there have no hash yet.
        let insert_end = self.filled.saturating_sub(MIN_MATCH - 1);
        loop {
            let lookahead = self.filled - self.index;
            if lookahead < MIN_MATCH + MAX_MATCH {
                if !flush {
                    return;
                }
                if lookahead == 0 {
                    if self.pending {
                        self.tokens.push(Token::literal(self.data[self.index - 1]));
                        self.pending = false;
                    }
                    if !self.tokens.is_empty() {
                        self.write_block(self.index);
                    }
                    return;
                }
            }
            let candidate = if self.index < insert_end { self.insert(self.index) } else { None };
            let (before, before_offset) = (self.length, self.offset);
            self.length = MIN_MATCH - 1;
            self.offset = 0;
            let reach = self.index.saturating_sub(WINDOW).max(self.base);
            if let Some(candidate) = candidate
                && candidate >= reach
                && lookahead > before
                && before < LAZY
            {
                self.find(candidate, lookahead);
            }
            if before >= MIN_MATCH && self.length <= before {
                // The match found one byte ago is the better one.
                self.tokens.push(Token::repeat(before, before_offset));
                let end = self.index + before - 1;
                for at in self.index + 1..end {
                    if at < insert_end {
                        self.insert(at);
                    }
                }
                self.index = end;
                self.pending = false;
                self.length = MIN_MATCH - 1;
                if self.tokens.len() == BLOCK_TOKENS {
                    self.write_block(self.index);
                }
            } else {
                if self.pending {
                    self.tokens.push(Token::literal(self.data[self.index - 1]));
                    if self.tokens.len() == BLOCK_TOKENS {
                        self.write_block(self.index);
                    }
                }
                self.index += 1;
                self.pending = true;
            }
        }
    }

    /// Looks along the chain for the longest match.
    fn find(&mut self, first: usize, lookahead: usize) {
        let at = self.index;
        let limit = lookahead.min(MAX_MATCH);
        let nice = NICE.min(limit);
        let mut best = MIN_MATCH - 1;
        let oldest = at.checked_sub(WINDOW);
        let mut candidate = first;
        for _ in 0..CHAIN {
            if self.data.get(at + best) == self.data.get(candidate + best) {
                let length = self.data[candidate..]
                    .iter()
                    .zip(&self.data[at..at + limit])
                    .take_while(|(a, b)| a == b)
                    .count();
                // A short match from far away costs more than its bytes.
                if length > best && (length > MIN_MATCH || at - candidate <= 4096) {
                    best = length;
                    self.length = length;
                    self.offset = at - candidate;
                    if length >= nice {
                        break;
                    }
                }
            }
            if Some(candidate) == oldest {
                break;
            }
            match self.previous[candidate % WINDOW].checked_sub(1) {
                Some(next) if next >= self.base && oldest.is_none_or(|oldest| next >= oldest) => {
                    candidate = next;
                }
                _ => break,
            }
        }
    }

    fn write_block(&mut self, end: usize) {
        let input =
            self.block_start.filter(|start| *start <= end).map(|start| &self.data[start..end]);
        self.block_start = Some(end);
        self.out.block(&self.tokens, input);
        self.tokens.clear();
    }
}
