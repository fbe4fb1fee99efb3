//! Items to a tree. The order in which things are looked at is Go's, since the first mistake ends
//! the reading and its text is shown.

use super::lex::{Item, ItemKind as K, Keyword, Lexer};
use super::quote::{quote, unquote};
use super::{Arg, ArgKind, Command, Control, ControlKind, Error, NAME, Node, Number, Pipe};

/// Parentheses, and blocks, may lie this deep in each other.
const MAX_DEPTH: usize = 100;

/// The functions that every template has.
const BUILTINS: &[&str] = &[
    "and", "call", "html", "index", "slice", "js", "len", "not", "or", "print", "printf",
    "println", "urlquery", "eq", "ge", "gt", "le", "lt", "ne",
];

/// Whether a function of this name is in every template.
pub(super) fn is_builtin(name: &str) -> bool {
    BUILTINS.contains(&name)
}

/// Reads a template that may call the functions that `has` knows.
pub(crate) fn parse(text: &str, has: &dyn Fn(&str) -> bool) -> Result<Vec<Node>, Error> {
    let mut parser = Parser {
        lexer: Lexer::new(text),
        waiting: Vec::new(),
        line: 1,
        action_line: 0,
        depth: 0,
        ranges: 0,
        variables: vec!["$".into()],
        has,
    };
    parser.template()
}

struct Parser<'a> {
    lexer: Lexer<'a>,
    /// Items that were given back, the next one last.
    waiting: Vec<Item>,
    /// Of the item that was read last.
    line: usize,
    action_line: usize,
    depth: usize,
    ranges: usize,
    variables: Vec<String>,
    has: &'a dyn Fn(&str) -> bool,
}

/// How a list of nodes ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    End,
    Else,
}

/// A node, or what ends a list of them.
enum Step {
    Node(Node),
    Ending(Ending),
    /// `{{ define }}`, which leaves nothing where it stands.
    Nothing,
}

impl Ending {
    fn shown(self) -> &'static str {
        match self {
            Self::End => "{{end}}",
            Self::Else => "{{else}}",
        }
    }
}

impl Parser<'_> {
    fn next(&mut self) -> Item {
        self.waiting.pop().unwrap_or_else(|| {
            let item = self.lexer.next_item();
            self.line = item.line;
            item
        })
    }

    fn back(&mut self, item: Item) {
        self.waiting.push(item);
    }

    fn peek(&mut self) -> K {
        let item = self.next();
        let kind = item.kind;
        self.back(item);
        kind
    }

    fn next_word(&mut self) -> Item {
        loop {
            let item = self.next();
            if item.kind != K::Space {
                return item;
            }
        }
    }

    fn peek_word(&mut self) -> Item {
        let item = self.next_word();
        self.back(item.clone());
        item
    }

    fn fail<T>(&self, message: impl AsRef<str>) -> Result<T, Error> {
        Err(Error(format!("template: {NAME}:{}: {}", self.line, message.as_ref())))
    }

    fn unexpected<T>(&self, item: &Item, context: &str) -> Result<T, Error> {
        if item.kind != K::Error {
            return self.fail(format!("unexpected {} in {context}", item.shown()));
        }
        let mut extra = String::new();
        if self.action_line != 0 && self.action_line != item.line {
            let word = if item.text.ends_with(" action") { "" } else { " in action" };
            extra = format!("{word} started at {NAME}:{}", self.action_line);
        }
        self.fail(format!("{}{extra}", item.text))
    }

    fn expect(&mut self, kind: K, context: &str) -> Result<Item, Error> {
        let item = self.next_word();
        if item.kind == kind { Ok(item) } else { self.unexpected(&item, context) }
    }

    fn template(&mut self) -> Result<Vec<Node>, Error> {
        let mut nodes = Vec::new();
        while self.peek() != K::End {
            match self.text_or_action(true)? {
                Step::Node(node) => nodes.push(node),
                Step::Ending(ending) => {
                    return self.fail(format!("unexpected {}", ending.shown()));
                }
                Step::Nothing => {}
            }
        }
        Ok(nodes)
    }

    fn text_or_action(&mut self, top: bool) -> Result<Step, Error> {
        let item = self.next_word();
        match item.kind {
            K::Text => Ok(Step::Node(Node::Text(item.text))),
            K::LeftDelimiter => {
                let first = self.next_word();
                if top && first.kind == K::Keyword(Keyword::Define) {
                    self.definition()?;
                    return Ok(Step::Nothing);
                }
                self.back(first);
                self.action_line = item.line;
                let step = self.action();
                self.action_line = 0;
                step
            }
            _ => self.unexpected(&item, "input"),
        }
    }

    fn definition(&mut self) -> Result<(), Error> {
        const CONTEXT: &str = "define clause";
        let name = self.next_word();
        if !matches!(name.kind, K::String | K::RawString) {
            return self.unexpected(&name, CONTEXT);
        }
        if unquote(&name.text).is_none() {
            return self.fail("invalid syntax");
        }
        let (depth, variables) = (self.ranges, std::mem::replace(&mut self.variables, dollar()));
        self.ranges = 0;
        self.expect(K::RightDelimiter, CONTEXT)?;
        let (_, ending) = self.list()?;
        if ending != Ending::End {
            return self.fail(format!("unexpected {} in {CONTEXT}", ending.shown()));
        }
        (self.ranges, self.variables) = (depth, variables);
        Ok(())
    }

    fn list(&mut self) -> Result<(Vec<Node>, Ending), Error> {
        self.deeper()?;
        let mut nodes = Vec::new();
        while self.peek_word().kind != K::End {
            match self.text_or_action(false)? {
                Step::Node(node) => nodes.push(node),
                Step::Ending(ending) => {
                    self.depth -= 1;
                    return Ok((nodes, ending));
                }
                Step::Nothing => {}
            }
        }
        self.fail("unexpected EOF")
    }

    fn deeper(&mut self) -> Result<(), Error> {
        if self.depth == MAX_DEPTH {
            return self.fail("max expression depth exceeded");
        }
        self.depth += 1;
        Ok(())
    }

    fn action(&mut self) -> Result<Step, Error> {
        let item = self.next_word();
        let K::Keyword(keyword) = item.kind else {
            self.back(item);
            return Ok(Step::Node(Node::Action(self.pipeline("command", K::RightDelimiter)?)));
        };
        let control = match keyword {
            Keyword::Block => self.block()?,
            Keyword::Break | Keyword::Continue => self.jump(keyword)?,
            Keyword::Else => return self.otherwise(),
            Keyword::End => {
                self.expect(K::RightDelimiter, "end")?;
                return Ok(Step::Ending(Ending::End));
            }
            Keyword::If => self.control(ControlKind::If)?,
            Keyword::Range => self.control(ControlKind::Range)?,
            Keyword::With => self.control(ControlKind::With)?,
            Keyword::Template => self.call()?,
            Keyword::Dot | Keyword::Nil | Keyword::Define => {
                self.back(item);
                return Ok(Step::Node(Node::Action(self.pipeline("command", K::RightDelimiter)?)));
            }
        };
        Ok(Step::Node(Node::Control(control)))
    }

    fn jump(&mut self, keyword: Keyword) -> Result<Control, Error> {
        let (word, kind) = match keyword {
            Keyword::Break => ("{{break}}", ControlKind::Break),
            _ => ("{{continue}}", ControlKind::Continue),
        };
        let item = self.next_word();
        if item.kind != K::RightDelimiter {
            return self.unexpected(&item, word);
        }
        if self.ranges == 0 {
            return self.fail(format!("{word} outside {{{{range}}}}"));
        }
        Ok(Control { kind, pipe: None, list: Vec::new(), otherwise: Vec::new() })
    }

    fn otherwise(&mut self) -> Result<Step, Error> {
        let next = self.peek_word().kind;
        if !matches!(next, K::Keyword(Keyword::If | Keyword::With)) {
            self.expect(K::RightDelimiter, "else")?;
        }
        Ok(Step::Ending(Ending::Else))
    }

    fn control(&mut self, kind: ControlKind) -> Result<Control, Error> {
        let (context, again) = match kind {
            ControlKind::If => ("if", Some(Keyword::If)),
            ControlKind::With => ("with", Some(Keyword::With)),
            _ => ("range", None),
        };
        let known = self.variables.len();
        let pipe = self.pipeline(context, K::RightDelimiter)?;
        let ranges = usize::from(kind == ControlKind::Range);
        self.ranges += ranges;
        let (list, ending) = self.list()?;
        self.ranges -= ranges;
        let mut otherwise = Vec::new();
        if ending == Ending::Else {
            if again.is_some_and(|keyword| self.peek() == K::Keyword(keyword)) {
                self.next();
                self.deeper()?;
                otherwise.push(Node::Control(self.control(kind)?));
                self.depth -= 1;
            } else {
                let (nodes, ending) = self.list()?;
                otherwise = nodes;
                if ending != Ending::End {
                    return self.fail(format!("expected end; found {}", ending.shown()));
                }
            }
        }
        self.variables.truncate(known);
        Ok(Control { kind, pipe: Some(pipe), list, otherwise })
    }

    fn template_name(&mut self, context: &str) -> Result<(), Error> {
        let name = self.next_word();
        if !matches!(name.kind, K::String | K::RawString) {
            return self.unexpected(&name, context);
        }
        if unquote(&name.text).is_none() {
            return self.fail("invalid syntax");
        }
        Ok(())
    }

    fn block(&mut self) -> Result<Control, Error> {
        const CONTEXT: &str = "block clause";
        self.template_name(CONTEXT)?;
        let pipe = self.pipeline(CONTEXT, K::RightDelimiter)?;
        let variables = std::mem::replace(&mut self.variables, dollar());
        let (list, ending) = self.list()?;
        if ending != Ending::End {
            return self.fail(format!("unexpected {} in {CONTEXT}", ending.shown()));
        }
        self.variables = variables;
        Ok(Control { kind: ControlKind::Template, pipe: Some(pipe), list, otherwise: Vec::new() })
    }

    fn call(&mut self) -> Result<Control, Error> {
        const CONTEXT: &str = "template clause";
        self.template_name(CONTEXT)?;
        let item = self.next_word();
        let mut pipe = None;
        if item.kind != K::RightDelimiter {
            self.back(item);
            pipe = Some(self.pipeline(CONTEXT, K::RightDelimiter)?);
        }
        Ok(Control { kind: ControlKind::Template, pipe, list: Vec::new(), otherwise: Vec::new() })
    }

    fn pipeline(&mut self, context: &str, end: K) -> Result<Pipe, Error> {
        let pos = self.peek_word().pos;
        let mut pipe = Pipe { pos, variables: Vec::new(), assigns: false, commands: Vec::new() };
        self.declarations(&mut pipe, context)?;
        loop {
            let item = self.next_word();
            match item.kind {
                kind if kind == end => break,
                K::Bool
                | K::CharConstant
                | K::Complex
                | K::Keyword(Keyword::Dot | Keyword::Nil)
                | K::Field
                | K::Identifier
                | K::Number
                | K::RawString
                | K::String
                | K::Variable
                | K::LeftParenthesis => {
                    self.back(item);
                    let command = self.command()?;
                    pipe.commands.push(command);
                }
                _ => return self.unexpected(&item, context),
            }
        }
        if pipe.commands.is_empty() {
            return self.fail(format!("missing value for {context}"));
        }
        for (command, stage) in pipe.commands.iter().zip(1..).skip(1) {
            let fixed = matches!(
                command.args[0].kind,
                ArgKind::Bool(_)
                    | ArgKind::Dot
                    | ArgKind::Nil
                    | ArgKind::Number(_)
                    | ArgKind::Text(..)
            );
            if fixed {
                return self.fail(format!("non executable command in pipeline stage {stage}"));
            }
        }
        Ok(pipe)
    }

    fn declarations(&mut self, pipe: &mut Pipe, context: &str) -> Result<(), Error> {
        while self.peek_word().kind == K::Variable {
            let variable = self.next_word();
            let after = self.next();
            let next = if after.kind == K::Space { self.next_word() } else { after.clone() };
            let declares = matches!(next.kind, K::Assign | K::Declare);
            if declares || next.kind == K::Char && next.text == "," {
                pipe.assigns = next.kind == K::Assign;
                pipe.variables.push(variable.text.clone());
                self.variables.push(variable.text);
                if declares {
                    return Ok(());
                }
                if context == "range" && pipe.variables.len() < 2 {
                    match self.peek_word().kind {
                        K::Variable | K::RightDelimiter | K::RightParenthesis => continue,
                        _ => return self.fail("range can only initialize variables"),
                    }
                }
                return self.fail(format!("too many declarations in {context}"));
            }
            if after.kind == K::Space {
                self.back(next);
            }
            self.back(after);
            self.back(variable);
            return Ok(());
        }
        Ok(())
    }

    fn command(&mut self) -> Result<Command, Error> {
        let pos = self.peek_word().pos;
        let mut args = Vec::new();
        loop {
            self.peek_word();
            args.extend(self.operand()?);
            let item = self.next();
            match item.kind {
                K::Space => {}
                K::RightDelimiter | K::RightParenthesis => {
                    self.back(item);
                    break;
                }
                K::Pipe => break,
                _ => return self.unexpected(&item, "operand"),
            }
        }
        if args.is_empty() {
            return self.fail("empty command");
        }
        Ok(Command { pos, args })
    }

    fn operand(&mut self) -> Result<Option<Arg>, Error> {
        let Some(arg) = self.term()? else { return Ok(None) };
        if self.peek() != K::Field {
            return Ok(Some(arg));
        }
        let mut pos = None;
        let mut fields = String::new();
        while self.peek() == K::Field {
            let item = self.next();
            pos.get_or_insert(item.pos);
            fields.push_str(&item.text);
        }
        let pos = pos.unwrap_or(arg.pos);
        let kind = match arg.kind {
            ArgKind::Field(text) => ArgKind::Field(text + &fields),
            ArgKind::Variable(text) => ArgKind::Variable(text + &fields),
            ArgKind::Bool(_)
            | ArgKind::Text(..)
            | ArgKind::Number(_)
            | ArgKind::Nil
            | ArgKind::Dot => {
                let shown = quote(&arg.to_string());
                return self.fail(format!("unexpected . after term {shown}"));
            }
            _ => ArgKind::Chain(Box::new(arg), fields),
        };
        Ok(Some(Arg { pos, kind }))
    }

    fn term(&mut self) -> Result<Option<Arg>, Error> {
        let item = self.next_word();
        let pos = item.pos;
        let kind = match item.kind {
            K::Identifier => {
                if !is_builtin(&item.text) && !(self.has)(&item.text) {
                    return self.fail(format!("function {} not defined", quote(&item.text)));
                }
                ArgKind::Identifier(item.text)
            }
            K::Keyword(Keyword::Dot) => ArgKind::Dot,
            K::Keyword(Keyword::Nil) => ArgKind::Nil,
            K::Variable => {
                if !self.variables.contains(&item.text) {
                    return self.fail(format!("undefined variable {}", quote(&item.text)));
                }
                ArgKind::Variable(item.text)
            }
            K::Field => ArgKind::Field(item.text),
            K::Bool => ArgKind::Bool(item.text == "true"),
            K::CharConstant | K::Complex | K::Number => match number(&item) {
                Ok(number) => ArgKind::Number(number),
                Err(message) => return self.fail(message),
            },
            K::LeftParenthesis => {
                self.deeper()?;
                let pipe = self.pipeline("parenthesized pipeline", K::RightParenthesis)?;
                self.depth -= 1;
                return Ok(Some(Arg { pos: pipe.pos, kind: ArgKind::Pipe(Box::new(pipe)) }));
            }
            K::String | K::RawString => match unquote(&item.text) {
                Some(text) => ArgKind::Text(item.text, text),
                None => return self.fail("invalid syntax"),
            },
            _ => {
                self.back(item);
                return Ok(None);
            }
        };
        Ok(Some(Arg { pos, kind }))
    }
}

fn dollar() -> Vec<String> {
    vec!["$".into()]
}

fn number(item: &Item) -> Result<Number, String> {
    let number = karat_text::go::Number::parse(&item.text)?;
    Ok(Number { text: number.text, int: number.int, float: number.float })
}
