//! Blocks of DEFLATE: tokens, Huffman codes, bits.

/// The number of literal and length codes that are used.
const LITERALS: usize = 286;
const OFFSETS: usize = 30;
const CODE_LENGTHS: usize = 19;
const END_OF_BLOCK: usize = 256;
const FIRST_LENGTH: usize = 257;
/// The longest stored block.
const MAX_STORED: usize = 65_535;
/// The order in which the lengths of code-length codes are written.
const ORDER: [usize; CODE_LENGTHS] =
    [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/// A byte, or a repetition of bytes before it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Token {
    Literal(u8),
    /// Length less 3, distance less 1.
    Repeat(u16, u16),
}

impl Token {
    pub(super) fn literal(byte: u8) -> Self {
        Self::Literal(byte)
    }

    pub(super) fn repeat(length: usize, offset: usize) -> Self {
        Self::Repeat((length - 3) as u16, (offset - 1) as u16)
    }
}

/// A code with extra bits: its number, the extra bits and how many they are.
type Coded = (usize, u32, u32);

/// The code of a length less 3.
fn length_code(length: u16) -> Coded {
    let length = u32::from(length);
    match length {
        0..=7 => (length as usize, 0, 0),
        255.. => (28, 0, 0),
        _ => {
            let extra = length.ilog2() - 2;
            let code = 4 * (extra + 1) + ((length >> extra) & 3);
            (code as usize, length & ((1 << extra) - 1), extra)
        }
    }
}

/// The code of a distance less 1.
fn offset_code(offset: u16) -> Coded {
    let offset = u32::from(offset);
    match offset {
        0..=3 => (offset as usize, 0, 0),
        _ => {
            let extra = offset.ilog2() - 1;
            let code = 2 * (extra + 1) + ((offset >> extra) & 1);
            (code as usize, offset & ((1 << extra) - 1), extra)
        }
    }
}

/// Extra bits of a length code, from 0.
fn length_extra(code: usize) -> usize {
    if code < 8 || code == 28 { 0 } else { code / 4 - 1 }
}

/// Extra bits of an offset code.
fn offset_extra(code: usize) -> usize {
    if code < 4 { 0 } else { code / 2 - 1 }
}

/// A prefix code: bits, low first, and their number, for each symbol.
#[derive(Debug, Clone)]
struct Code {
    codes: Vec<(u16, u8)>,
}

impl Code {
    /// The code that every reader knows.
    fn fixed_literals() -> Self {
        let code = |symbol: u16| match symbol {
            0..=143 => (symbol + 48, 8),
            144..=255 => (symbol + 256, 9),
            256..=279 => (symbol - 256, 7),
            _ => (symbol - 88, 8),
        };
        let codes = (0..LITERALS as u16).map(code);
        Self { codes: codes.map(|(bits, length)| (reversed(bits, length), length)).collect() }
    }

    fn fixed_offsets() -> Self {
        Self { codes: (0..OFFSETS as u16).map(|symbol| (reversed(symbol, 5), 5)).collect() }
    }

    /// The best code for symbols of these frequencies, with codes of a limited length.
    fn best(frequencies: &[u32], limit: usize) -> Self {
        let mut codes = vec![(0, 0); frequencies.len()];
        let mut used: Vec<(u32, usize)> = frequencies
            .iter()
            .enumerate()
            .filter(|(_, frequency)| **frequency > 0)
            .map(|(symbol, frequency)| (*frequency, symbol))
            .collect();
        if used.len() <= 2 {
            for (bit, (_, symbol)) in used.iter().enumerate() {
                codes[*symbol] = (bit as u16, 1);
            }
            return Self { codes };
        }
        used.sort_unstable();
        // The most frequent symbols get the shortest codes; within a length, symbols
        // are in order.
        let mut code: u16 = 0;
        let mut rest = used.as_slice();
        for (length, count) in length_counts(&used, limit).into_iter().enumerate() {
            code <<= 1;
            if count == 0 {
                continue;
            }
            let (others, chunk) = rest.split_at(rest.len() - count);
            rest = others;
            let mut symbols: Vec<usize> = chunk.iter().map(|(_, symbol)| *symbol).collect();
            symbols.sort_unstable();
            for symbol in symbols {
                codes[symbol] = (reversed(code, length as u8), length as u8);
                code += 1;
            }
        }
        Self { codes }
    }

    /// How many bits the symbols take, without extra bits.
    fn size(&self, frequencies: &[u32]) -> usize {
        let symbols = frequencies.iter().zip(&self.codes);
        symbols.map(|(frequency, (_, length))| *frequency as usize * usize::from(*length)).sum()
    }
}

/// The low bits in reverse order.
fn reversed(bits: u16, length: u8) -> u16 {
    if length == 0 { 0 } else { bits.reverse_bits() >> (16 - length) }
}

/// How many symbols get codes of each length, from 0, by package-merge as a boundary
/// algorithm (Katajainen, Moffat and Turpin: a fast and space-economical algorithm for
/// length-limited coding). Where frequencies tie, a package goes before a leaf only if
/// it is strictly smaller or equal, which decides which of several best codes comes out.
fn length_counts(sorted: &[(u32, usize)], limit: usize) -> Vec<usize> {
    const NEVER: u64 = u64::MAX;
    let count = sorted.len();
    let limit = limit.min(count - 1);
    let frequency =
        |at: usize| sorted.get(at).map_or(NEVER, |(frequency, _)| u64::from(*frequency));

    /// What one level of the merge is about to do.
    #[derive(Clone)]
    struct Level {
        last: u64,
        next_leaf: u64,
        next_package: u64,
        needed: usize,
        /// How many leaves each level below has used for this level's chain.
        leaves: Vec<usize>,
    }

    let mut levels: Vec<Level> = (0..=limit + 1)
        .map(|level| {
            let mut leaves = vec![0; limit + 1];
            if (1..=limit).contains(&level) {
                leaves[level] = 2;
            }
            Level {
                last: frequency(1),
                next_leaf: frequency(2),
                // On the lowest level there is nothing to make packages of.
                next_package: if level == 1 { NEVER } else { frequency(0) + frequency(1) },
                needed: 0,
                leaves,
            }
        })
        .collect();
    levels[limit].needed = 2 * count - 4;
    let mut at = limit;
    loop {
        if levels[at].next_package == NEVER && levels[at].next_leaf == NEVER {
            // This level is used up; so is the supply of packages for the next.
            levels[at].needed = 0;
            levels[at + 1].next_package = NEVER;
            at += 1;
            continue;
        }
        let before = levels[at].last;
        if levels[at].next_leaf < levels[at].next_package {
            let taken = levels[at].leaves[at] + 1;
            let level = &mut levels[at];
            level.last = level.next_leaf;
            level.leaves[at] = taken;
            level.next_leaf = frequency(taken);
        } else {
            let below = levels[at - 1].leaves[..at].to_vec();
            let level = &mut levels[at];
            level.last = level.next_package;
            level.leaves[..at].copy_from_slice(&below);
            levels[at - 1].needed = 2;
        }
        levels[at].needed -= 1;
        if levels[at].needed == 0 {
            if at == limit {
                break;
            }
            levels[at + 1].next_package = before + levels[at].last;
            at += 1;
        } else {
            while at > 0 && levels[at - 1].needed > 0 {
                at -= 1;
            }
        }
    }
    let leaves = &levels[limit].leaves;
    let mut counts = vec![0; limit + 1];
    for (length, level) in (1..=limit).rev().enumerate() {
        counts[length + 1] = leaves[level] - leaves[level - 1];
    }
    counts
}

/// One step of the description of a code: a length, or a run, with its extra bits.
type Step = (usize, u32, u32);

/// Describes the lengths of two codes as runs.
fn describe(lengths: &[u8]) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut rest = lengths;
    while let Some(&length) = rest.first() {
        let mut run = rest.iter().take_while(|other| **other == length).count();
        rest = &rest[run..];
        if length == 0 {
            while run >= 11 {
                let part = run.min(138);
                steps.push((18, (part - 11) as u32, 7));
                run -= part;
            }
            if run >= 3 {
                steps.push((17, (run - 3) as u32, 3));
                run = 0;
            }
        } else {
            steps.push((usize::from(length), 0, 0));
            run -= 1;
            while run >= 3 {
                let part = run.min(6);
                steps.push((16, (part - 3) as u32, 2));
                run -= part;
            }
        }
        steps.extend(std::iter::repeat_n((usize::from(length), 0, 0), run));
    }
    steps
}

/// Writes bits, low first.
#[derive(Debug, Default)]
pub(super) struct BitWriter {
    out: Vec<u8>,
    bits: u64,
    count: u32,
}

impl BitWriter {
    fn bits(&mut self, bits: u32, count: u32) {
        self.bits |= u64::from(bits) << self.count;
        self.count += count;
        while self.count >= 8 {
            self.out.push(self.bits as u8);
            self.bits >>= 8;
            self.count -= 8;
        }
    }

    fn align(&mut self) {
        if self.count > 0 {
            self.out.push(self.bits as u8);
            self.bits = 0;
            self.count = 0;
        }
    }

    fn code(&mut self, code: &Code, symbol: usize) {
        let (bits, length) = code.codes[symbol];
        self.bits(u32::from(bits), u32::from(length));
    }

    /// The head of a block that is stored as it is.
    pub(super) fn stored_header(&mut self, length: u16, last: bool) {
        self.bits(u32::from(last), 3);
        self.align();
        self.out.extend(length.to_le_bytes());
        self.out.extend((!length).to_le_bytes());
    }

    /// Ends the stream.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.align();
        self.out
    }

    /// Writes a block in its shortest form. Without the input it cannot be stored.
    pub(super) fn block(&mut self, tokens: &[Token], input: Option<&[u8]>) {
        let mut literals = [0_u32; LITERALS];
        let mut offsets = [0_u32; OFFSETS];
        literals[END_OF_BLOCK] = 1;
        for token in tokens {
            match token {
                Token::Literal(byte) => literals[usize::from(*byte)] += 1,
                Token::Repeat(length, offset) => {
                    literals[FIRST_LENGTH + length_code(*length).0] += 1;
                    offsets[offset_code(*offset).0] += 1;
                }
            }
        }
        let used = |frequencies: &[u32]| {
            frequencies.iter().rposition(|frequency| *frequency > 0).map_or(0, |last| last + 1)
        };
        let literal_count = used(&literals);
        let mut offset_count = used(&offsets);
        if offset_count == 0 {
            // A block without repetitions still describes one offset.
            offsets[0] = 1;
            offset_count = 1;
        }
        let literal_code = Code::best(&literals, 15);
        let offset_code_best = Code::best(&offsets, 15);

        let stored = input.filter(|input| input.len() <= MAX_STORED);
        let mut extra = 0;
        if stored.is_some() {
            let lengths = literals[FIRST_LENGTH..].iter().enumerate();
            extra += lengths.map(|(code, n)| *n as usize * length_extra(code)).sum::<usize>();
            let offsets = offsets.iter().enumerate();
            extra += offsets.map(|(code, n)| *n as usize * offset_extra(code)).sum::<usize>();
        }
        let fixed = (Code::fixed_literals(), Code::fixed_offsets());
        let fixed_size = 3 + fixed.0.size(&literals) + fixed.1.size(&offsets) + extra;

        let lengths: Vec<u8> = literal_code.codes[..literal_count]
            .iter()
            .chain(&offset_code_best.codes[..offset_count])
            .map(|(_, length)| *length)
            .collect();
        let steps = describe(&lengths);
        let mut step_frequencies = [0_u32; CODE_LENGTHS];
        steps.iter().for_each(|(step, ..)| step_frequencies[*step] += 1);
        let step_code = Code::best(&step_frequencies, 7);
        let step_count = ORDER
            .iter()
            .rposition(|symbol| step_frequencies[*symbol] > 0)
            .map_or(4, |last| (last + 1).max(4));
        let step_extra: usize = steps.iter().map(|(.., extra)| *extra as usize).sum();
        let dynamic_size = 3
            + 5
            + 5
            + 4
            + 3 * step_count
            + step_code.size(&step_frequencies)
            + step_extra
            + literal_code.size(&literals)
            + offset_code_best.size(&offsets)
            + extra;

        let smallest = fixed_size.min(dynamic_size);
        if let Some(input) = stored
            && (input.len() + 5) * 8 < smallest
        {
            self.stored_header(input.len() as u16, false);
            self.out.extend(input);
            return;
        }
        if dynamic_size < fixed_size {
            self.bits(4, 3);
            self.bits((literal_count - 257) as u32, 5);
            self.bits((offset_count - 1) as u32, 5);
            self.bits((step_count - 4) as u32, 4);
            for symbol in &ORDER[..step_count] {
                self.bits(u32::from(step_code.codes[*symbol].1), 3);
            }
            for (step, bits, count) in steps {
                self.code(&step_code, step);
                self.bits(bits, count);
            }
            self.tokens(tokens, &literal_code, &offset_code_best);
        } else {
            self.bits(2, 3);
            self.tokens(tokens, &fixed.0, &fixed.1);
        }
    }

    fn tokens(&mut self, tokens: &[Token], literals: &Code, offsets: &Code) {
        for token in tokens {
            match token {
                Token::Literal(byte) => self.code(literals, usize::from(*byte)),
                Token::Repeat(length, offset) => {
                    let (code, bits, count) = length_code(*length);
                    self.code(literals, FIRST_LENGTH + code);
                    self.bits(bits, count);
                    let (code, bits, count) = offset_code(*offset);
                    self.code(offsets, code);
                    self.bits(bits, count);
                }
            }
        }
        self.code(literals, END_OF_BLOCK);
    }
}
