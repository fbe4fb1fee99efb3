//! Text to tokens, without loss: the tokens of a text, put together, are the text.
//!
//! Native syntax is four languages in one: the normal one, quoted templates, heredocs and bare
//! templates. Interpolations lead from the last three into the normal one and back, so the lexer
//! keeps a stack of modes. Where quotes do not match, it gives up on the string at the end of its
//! line, so that one missing quote does not spoil the rest of the file.

use std::ops::Range;

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TokenKind {
    /// Blanks and tabs.
    Space,
    /// The byte order mark at the start of a text.
    ByteOrderMark,
    /// `# …` or `// …` with its line end, or `/* … */`.
    Comment,
    /// A line end, `\n` or `\r\n`.
    Newline,
    /// A name.
    Ident,
    /// A number.
    Number,
    /// `"` that opens.
    OpenQuote,
    /// `"` that closes; empty where it is missing.
    CloseQuote,
    /// Text in a quoted template, escapes and all.
    QuotedText,
    /// `<<EOT` with its line end.
    OpenHeredoc,
    /// The end marker with the blanks around it, without its line end.
    CloseHeredoc,
    /// Text in a heredoc or bare template; ends at the latest with a line end.
    Text,
    /// `${` or `${~`
    Interpolation,
    /// `%{` or `%{~`
    Directive,
    /// `}` or `~}` that ends an interpolation or directive; empty where it is missing.
    TemplateEnd,
    /// `{`
    OpenBrace,
    /// `}`
    CloseBrace,
    /// `[`
    OpenBracket,
    /// `]`
    CloseBracket,
    /// `(`
    OpenParen,
    /// `)`
    CloseParen,
    /// `=`
    Assign,
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
    /// `&&`
    And,
    /// `||`
    Or,
    /// `!`
    Bang,
    /// `+`
    Plus,
    /// `-`
    Minus,
    /// `*`
    Star,
    /// `/`
    Slash,
    /// `%`
    Percent,
    /// `?`
    Question,
    /// `:`
    Colon,
    /// `::`
    DoubleColon,
    /// `,`
    Comma,
    /// `.`
    Dot,
    /// `...`
    Ellipsis,
    /// `=>`
    FatArrow,
    /// A character that means nothing here.
    Invalid,
    /// The end of the text; empty.
    End,
}

impl TokenKind {
    /// Whether the parser does not see it.
    pub fn is_trivia(self) -> bool {
        matches!(self, Self::Space | Self::ByteOrderMark | Self::Comment)
    }

    /// Whether it opens (1) or closes (-1) something in the normal language, or neither (0).
    pub(crate) fn bracket(self) -> i32 {
        match self {
            Self::OpenBrace
            | Self::OpenBracket
            | Self::OpenParen
            | Self::Interpolation
            | Self::Directive => 1,
            Self::CloseBrace | Self::CloseBracket | Self::CloseParen | Self::TemplateEnd => -1,
            _ => 0,
        }
    }
}

/// One token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    /// What it is.
    pub kind: TokenKind,
    /// First byte in the text.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl Token {
    /// The bytes it covers.
    pub fn range(&self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// Which language a text begins in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// A file, a body or an expression.
    Normal,
    /// A template without quotes.
    Template,
}

/// Splits a text into tokens. The last one is [`TokenKind::End`].
pub fn lex(text: &str, start: Start) -> Vec<Token> {
    let mut lexer = Lexer {
        text,
        bytes: text.as_bytes(),
        pos: 0,
        line_start: 0,
        tokens: Vec::with_capacity(text.len() / 4 + 2),
        modes: Vec::new(),
        base: match start {
            Start::Normal => Mode::Normal { braces: 0, mark: Mark::default() },
            Start::Template => Mode::Bare,
        },
        broken: None,
        restarts: 0,
    };
    lexer.run();
    lexer.tokens
}

/// How often the lexer starts again where something is open to the end of the text.
const MAX_RESTARTS: usize = 16;

#[derive(Clone, Debug)]
enum Mode {
    Normal {
        /// Braces open in this stretch of the normal language.
        braces: u32,
        /// What opened it.
        mark: Mark,
    },
    Quoted(Mark),
    Heredoc {
        marker: Range<usize>,
        line_start: bool,
    },
    Bare,
}

/// Where a quote, interpolation or directive was opened, to begin there again.
#[derive(Clone, Copy, Debug, Default)]
struct Mark {
    /// Its offset.
    start: usize,
    /// Number of tokens before it.
    tokens: usize,
    /// Offset of the start of its line.
    line_start: usize,
}

struct Lexer<'a> {
    text: &'a str,
    bytes: &'a [u8],
    pos: usize,
    /// Offset behind the last line end.
    line_start: usize,
    tokens: Vec<Token>,
    modes: Vec<Mode>,
    base: Mode,
    /// Depth of the modes above which everything ends with the current line.
    broken: Option<usize>,
    restarts: usize,
}

impl Lexer<'_> {
    fn run(&mut self) {
        if self.text.starts_with('\u{feff}') && matches!(self.base, Mode::Normal { .. }) {
            self.token(TokenKind::ByteOrderMark, 3);
        }
        loop {
            while self.pos < self.bytes.len() {
                match self.modes.last().unwrap_or(&self.base) {
                    Mode::Normal { .. } => self.normal(),
                    Mode::Quoted(_) => self.quoted(),
                    Mode::Heredoc { .. } => self.heredoc(),
                    Mode::Bare => self.bare(),
                }
            }
            if !self.restart() {
                break;
            }
        }
        self.token(TokenKind::End, 0);
    }

    /// At the end of the text with a string or interpolation still open: lexes again from there, and
    /// then it ends with its line.
    fn restart(&mut self) -> bool {
        let open = self.modes.iter().enumerate().find_map(|(depth, mode)| match mode {
            Mode::Quoted(mark) | Mode::Normal { mark, .. } => Some((depth, *mark)),
            _ => None,
        });
        let Some((depth, mark)) = open else { return false };
        if self.restarts == MAX_RESTARTS || self.broken.is_some() {
            self.close_down_to(depth);
            return false;
        }
        if !self.bytes[mark.start..].contains(&b'\n') {
            self.close_down_to(depth);
            return false;
        }
        self.restarts += 1;
        self.pos = mark.start;
        self.line_start = mark.line_start;
        self.tokens.truncate(mark.tokens);
        self.modes.truncate(depth);
        self.broken = Some(depth);
        true
    }

    fn mark(&self) -> Mark {
        Mark { start: self.pos, tokens: self.tokens.len(), line_start: self.line_start }
    }

    /// Leaves a mode whose end was found.
    fn pop(&mut self) {
        self.modes.pop();
        if self.broken.is_some_and(|depth| depth >= self.modes.len()) {
            self.broken = None;
        }
    }

    /// Leaves all modes above a depth, with empty closing tokens.
    fn close_down_to(&mut self, depth: usize) {
        while self.modes.len() > depth {
            let kind = match self.modes.pop() {
                Some(Mode::Quoted(_)) => TokenKind::CloseQuote,
                Some(Mode::Normal { .. }) => TokenKind::TemplateEnd,
                _ => continue,
            };
            self.token(kind, 0);
        }
    }

    fn token(&mut self, kind: TokenKind, len: usize) {
        let end = (self.pos + len).min(self.bytes.len());
        let clip = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        self.tokens.push(Token { kind, start: clip(self.pos), end: clip(end) });
        if end > self.pos && self.bytes[end - 1] == b'\n' {
            self.line_start = end;
        }
        self.pos = end;
    }

    fn at(&self, ahead: usize) -> u8 {
        self.bytes.get(self.pos + ahead).copied().unwrap_or(0)
    }

    fn char_at(&self, pos: usize) -> Option<char> {
        self.text.get(pos..).and_then(|rest| rest.chars().next())
    }

    fn normal(&mut self) {
        use TokenKind as K;
        let newline = self.newline_at(0);
        if newline > 0 {
            if let Some(depth) = self.broken.take_if(|depth| self.modes.len() > *depth) {
                self.close_down_to(depth);
            } else {
                self.token(K::Newline, newline);
            }
            return;
        }
        match (self.at(0), self.at(1), self.at(2)) {
            (b' ' | b'\t', ..) => {
                let len = self.count(0, |b| b == b' ' || b == b'\t');
                self.token(K::Space, len);
            }
            (b'#', ..) | (b'/', b'/', _) => self.line_comment(),
            (b'/', b'*', _) => self.block_comment(),
            (b'"', ..) => self.open_quote(),
            (b'<', b'<', _) => self.open_heredoc(),
            (b'.', b'.', b'.') => self.token(K::Ellipsis, 3),
            (b'=', b'=', _) => self.token(K::Equal, 2),
            (b'=', b'>', _) => self.token(K::FatArrow, 2),
            (b'!', b'=', _) => self.token(K::NotEqual, 2),
            (b'<', b'=', _) => self.token(K::LessOrEqual, 2),
            (b'>', b'=', _) => self.token(K::GreaterOrEqual, 2),
            (b'&', b'&', _) => self.token(K::And, 2),
            (b'|', b'|', _) => self.token(K::Or, 2),
            (b':', b':', _) => self.token(K::DoubleColon, 2),
            (b'~', b'}', _) => self.close_brace(2),
            (b'}', ..) => self.close_brace(1),
            (b'{', ..) => {
                if let Mode::Normal { braces, .. } = self.mode() {
                    *braces += 1;
                }
                self.token(K::OpenBrace, 1);
            }
            (b'0'..=b'9', ..) => self.number(),
            (byte, ..) => match single(byte) {
                Some(kind) => self.token(kind, 1),
                None => self.word(),
            },
        }
    }

    fn mode(&mut self) -> &mut Mode {
        self.modes.last_mut().unwrap_or(&mut self.base)
    }

    fn count(&self, from: usize, accept: impl Fn(u8) -> bool) -> usize {
        self.bytes[self.pos + from..].iter().take_while(|b| accept(**b)).count()
    }

    fn line_comment(&mut self) {
        let len = self.count(0, |b| b != b'\n');
        // Behind a broken string the line end is needed to close it.
        let in_broken = self.broken.is_some_and(|depth| self.modes.len() > depth);
        self.token(TokenKind::Comment, if in_broken { len } else { len + 1 });
    }

    fn block_comment(&mut self) {
        match self.text[self.pos + 2..].find("*/") {
            Some(len) => self.token(TokenKind::Comment, len + 4),
            None => self.token(TokenKind::Invalid, self.bytes.len()),
        }
    }

    fn open_quote(&mut self) {
        self.modes.push(Mode::Quoted(self.mark()));
        self.token(TokenKind::OpenQuote, 1);
    }

    fn open_heredoc(&mut self) {
        let dash = usize::from(self.at(2) == b'-');
        let name = self.pos + 2 + dash;
        let name_len = self.ident_len(name);
        let end = name + name_len;
        let newline = match (self.bytes.get(end), self.bytes.get(end + 1)) {
            (Some(b'\n'), _) => 1,
            (Some(b'\r'), Some(b'\n')) => 2,
            _ => 0,
        };
        if name_len == 0 || newline == 0 {
            self.token(TokenKind::Less, 1);
            return;
        }
        self.modes.push(Mode::Heredoc { marker: name..end, line_start: true });
        self.token(TokenKind::OpenHeredoc, end + newline - self.pos);
    }

    fn close_brace(&mut self, len: usize) {
        let in_template = !self.modes.is_empty();
        let ends_template = match self.mode() {
            Mode::Normal { braces: 0, .. } => in_template,
            Mode::Normal { braces, .. } => {
                *braces -= 1;
                false
            }
            _ => false,
        };
        if ends_template {
            self.pop();
        }
        let kind =
            if ends_template || len == 2 { TokenKind::TemplateEnd } else { TokenKind::CloseBrace };
        self.token(kind, len);
    }

    fn number(&mut self) {
        // Digits, points and exponents in any order, as long as the last is not a point; what is
        // no number after all is for the parser to say.
        let mut len = 1;
        let mut seen = 1;
        loop {
            let exponent = match (self.at(seen), self.at(seen + 1), self.at(seen + 2)) {
                (b'e' | b'E', b'0'..=b'9', _) => 2,
                (b'e' | b'E', b'+' | b'-', b'0'..=b'9') => 3,
                _ => 0,
            };
            match self.at(seen) {
                b'0'..=b'9' => seen += 1,
                b'.' => {
                    seen += 1;
                    continue;
                }
                _ if exponent > 0 => seen += exponent,
                _ => break,
            }
            len = seen;
        }
        self.token(TokenKind::Number, len);
    }

    fn ident_len(&self, start: usize) -> usize {
        let mut end = start;
        for c in self.text.get(start..).unwrap_or("").chars() {
            let fits = if end == start {
                c == '_' || unicode_ident::is_xid_start(c)
            } else {
                c == '-' || unicode_ident::is_xid_continue(c)
            };
            if !fits {
                break;
            }
            end += c.len_utf8();
        }
        end - start
    }

    fn word(&mut self) {
        match self.ident_len(self.pos) {
            0 => {
                let len = self.char_at(self.pos).map_or(1, char::len_utf8);
                self.token(TokenKind::Invalid, len);
            }
            len => self.token(TokenKind::Ident, len),
        }
    }

    /// Takes `${` or `%{` if it stands here.
    fn open_template(&mut self) -> bool {
        let kind = match (self.at(0), self.at(1)) {
            (b'$', b'{') => TokenKind::Interpolation,
            (b'%', b'{') => TokenKind::Directive,
            _ => return false,
        };
        let len = if self.at(2) == b'~' { 3 } else { 2 };
        if let Mode::Heredoc { line_start, .. } = self.mode() {
            *line_start = false;
        }
        self.modes.push(Mode::Normal { braces: 0, mark: self.mark() });
        self.token(kind, len);
        true
    }

    /// Length of a `$` or `%` that opens nothing, with what it escapes.
    fn sign_len(&self) -> usize {
        let sign = self.at(0);
        if self.at(1) != sign || self.at(2) != b'{' {
            1
        } else if self.at(3) == b'~' {
            4
        } else {
            3
        }
    }

    fn quoted(&mut self) {
        if self.open_template() {
            return;
        }
        match self.at(0) {
            b'"' => {
                self.pop();
                self.token(TokenKind::CloseQuote, 1);
            }
            b'\n' | b'\r' => self.newline_in_string(),
            b'$' | b'%' => self.token(TokenKind::QuotedText, self.sign_len()),
            _ => {
                let mut len = 0;
                loop {
                    match self.at(len) {
                        b'$' | b'%' | b'"' | b'\r' | b'\n' => break,
                        b'\\' if !matches!(self.at(len + 1), b'\r' | b'\n') => {
                            let next = self.char_at(self.pos + len + 1);
                            len += 1 + next.map_or(0, char::len_utf8);
                        }
                        0 if self.pos + len >= self.bytes.len() => break,
                        _ => len += 1,
                    }
                }
                self.token(TokenKind::QuotedText, len);
            }
        }
    }

    /// A string may not go over a line end: everything that was opened on this line in or around
    /// the string ends here.
    fn newline_in_string(&mut self) {
        let line = self.line_start;
        let depth = self
            .modes
            .iter()
            .position(|mode| matches!(mode, Mode::Quoted(q) if q.line_start == line))
            .unwrap_or(self.modes.len() - 1);
        let depth = self.broken.take().map_or(depth, |broken| broken.min(depth));
        self.close_down_to(depth);
        if self.newline_at(0) == 0 {
            self.token(TokenKind::Invalid, 1);
        }
    }

    fn heredoc(&mut self) {
        if self.open_template() {
            return;
        }
        if matches!(self.at(0), b'$' | b'%') {
            self.token(TokenKind::Text, self.sign_in_line());
            if let Mode::Heredoc { line_start, .. } = self.mode() {
                *line_start = false;
            }
            return;
        }
        let len = self.count(0, |b| !matches!(b, b'$' | b'%' | b'\n' | b'\r'));
        let newline = self.newline_at(len);
        let line_end = self.pos + len;
        if let Mode::Heredoc { marker, line_start: true } = self.modes.last().unwrap_or(&self.base)
            && (newline > 0 || line_end == self.bytes.len())
            && self.text[self.pos..line_end].trim() == &self.text[marker.clone()]
        {
            self.modes.pop();
            self.token(TokenKind::CloseHeredoc, len);
            return;
        }
        if let Mode::Heredoc { line_start, .. } = self.mode() {
            *line_start = newline > 0;
        }
        match len + newline {
            0 => self.token(TokenKind::Invalid, 1),
            len => self.token(TokenKind::Text, len),
        }
    }

    fn bare(&mut self) {
        if self.open_template() {
            return;
        }
        if matches!(self.at(0), b'$' | b'%') {
            self.token(TokenKind::Text, self.sign_in_line());
            return;
        }
        let len = self.count(0, |b| !matches!(b, b'$' | b'%' | b'\n' | b'\r'));
        match len + self.newline_at(len) {
            // Behind a carriage return that ends no line, all is text.
            0 => self.token(TokenKind::Text, self.bytes.len() - self.pos),
            len => self.token(TokenKind::Text, len),
        }
    }

    /// Length of a `$` or `%` that opens nothing. A character between it and the end of the line
    /// belongs to it, which shows where `~` trims what stands before it.
    fn sign_in_line(&self) -> usize {
        match self.sign_len() {
            1 if self.newline_at(2) > 0 => 2,
            len => len,
        }
    }

    /// Length of the line end that stands there.
    fn newline_at(&self, ahead: usize) -> usize {
        match (self.at(ahead), self.at(ahead + 1)) {
            (b'\n', _) => 1,
            (b'\r', b'\n') => 2,
            _ => 0,
        }
    }
}

fn single(byte: u8) -> Option<TokenKind> {
    use TokenKind as K;
    Some(match byte {
        b'[' => K::OpenBracket,
        b']' => K::CloseBracket,
        b'(' => K::OpenParen,
        b')' => K::CloseParen,
        b'.' => K::Dot,
        b',' => K::Comma,
        b'*' => K::Star,
        b'/' => K::Slash,
        b'%' => K::Percent,
        b'+' => K::Plus,
        b'-' => K::Minus,
        b'=' => K::Assign,
        b'<' => K::Less,
        b'>' => K::Greater,
        b'!' => K::Bang,
        b'?' => K::Question,
        b':' => K::Colon,
        _ => return None,
    })
}
