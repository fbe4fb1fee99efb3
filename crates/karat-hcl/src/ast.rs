//! The typed tree of a template: what the text means, with the place of everything.
//!
//! The tree is what evaluators and schemas read. Comments, blanks and spelling stay with the
//! tokens; a [`Span`] leads from here to there. All text in the tree is final:
//! escapes are resolved, `~` and `<<-` have done their work, names and literals are in Unicode
//! normal form C.
//!
//! The same tree serves HCL's native syntax and its JSON syntax: a JSON value is turned into an
//! [`Expr`], a JSON object into a [`Body`] once a [schema](crate::schema) says what it holds.
//!
//! Trees are never deeper than [`MAX_HEIGHT`], so plain recursion over them is safe.

use crate::diag::Span;
use crate::json::JsonBody;

/// No expression tree is taller than this; the parser reports an error instead.
pub const MAX_HEIGHT: u32 = 256;

/// A name and its place.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ident {
    /// In normal form C.
    pub name: String,
    /// Where it stands.
    pub span: Span,
}

impl Ident {
    /// A name at a place.
    pub fn new(name: impl Into<String>, span: Span) -> Self {
        Self { name: name.into(), span }
    }
}

/// What stands between two braces, or a whole file. Ask it with a [schema](crate::schema).
#[derive(Clone, Debug)]
pub enum Body {
    /// From native syntax.
    Native(NativeBody),
    /// From JSON syntax; what is an attribute and what a block, only a schema can say.
    Json(JsonBody),
}

/// A body in native syntax.
#[derive(Clone, Debug)]
pub struct NativeBody {
    /// Attributes and blocks as they stand in the text. No attribute name stands here twice.
    pub items: Vec<Item>,
    /// Everything between the braces; the whole text for a file.
    pub span: Span,
    /// The closing brace, or the empty end of the file: where "missing attribute" is reported.
    pub end: Span,
}

/// One thing in a body.
#[derive(Clone, Debug)]
pub enum Item {
    /// `name = value`
    Attribute(Attribute),
    /// `type "label" { … }`
    Block(Block),
}

/// `name = value`
#[derive(Clone, Debug)]
pub struct Attribute {
    /// The name before the `=`.
    pub name: Ident,
    /// The value.
    pub expr: Expr,
    /// From the name to the end of the value.
    pub span: Span,
}

/// `type "label" { … }`
#[derive(Clone, Debug)]
pub struct Block {
    /// The first word.
    pub kind: Ident,
    /// The words after it.
    pub labels: Vec<Label>,
    /// What stands between the braces.
    pub body: Body,
    /// Type and labels, without the body: where most errors about a block belong.
    pub header: Span,
    /// From the type to the closing brace.
    pub span: Span,
}

/// A label of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// The text without quotes.
    pub text: String,
    /// With the quotes.
    pub span: Span,
    /// Whether it stands in quotes.
    pub quoted: bool,
}

/// An expression and its place.
#[derive(Clone, Debug)]
pub struct Expr {
    /// What it is.
    pub kind: ExprKind,
    /// Where it stands.
    pub span: Span,
    height: u32,
}

/// What an expression is.
#[derive(Clone, Debug)]
pub enum ExprKind {
    /// `null`
    Null,
    /// `true`, `false`
    Bool(bool),
    /// A number as written (`007`, `1.e3`): digits, points, exponent; no sign.
    Number(String),
    /// Text in quotes, a heredoc, or a whole template file.
    Template(Template),
    /// `[a, b]`
    Tuple(Vec<Expr>),
    /// `{a = 1, "b" : 2}`; items in order, a key may stand twice (the last wins).
    Object(Vec<ObjectItem>),
    /// `f(a, b...)`
    Call(Call),
    /// `[for x in c : v if p]`, `{for k, v in c : kk => vv...}`
    For(Box<For>),
    /// `p ? a : b`
    Conditional(Box<Conditional>),
    /// `a + b`
    Binary(Box<Binary>),
    /// `-a`, `!a`
    Unary(Box<Unary>),
    /// `(a)`
    Parens(Box<Expr>),
    /// A name that something in scope answers to.
    Variable(Ident),
    /// `a.b[c].0`
    Traversal(Traversal),
    /// `a.*.b`, `a[*].b`
    Splat(Splat),
    /// Inside [`Splat::each`] only: the element that the innermost splat is at.
    SplatItem,
    /// Stands where an expression could not be read. An error was reported; give an unknown value
    /// and report nothing more.
    Error,
}

/// A text with holes.
#[derive(Clone, Debug)]
pub struct Template {
    /// How it was written.
    pub form: TemplateForm,
    /// Its pieces in order; none for the empty text. No two literals stand side by side, and a
    /// literal may be empty after trimming: it still makes the template a string.
    pub parts: Vec<TemplatePart>,
}

/// How a template was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TemplateForm {
    /// `"…"`
    Quoted,
    /// `<<EOT`
    Heredoc,
    /// `<<-EOT`; its indentation is already gone.
    FlushHeredoc,
    /// A whole text without quotes, as `templatefile` reads it.
    Bare,
    /// A string of HCL's JSON syntax.
    Json,
}

/// One piece of a template.
#[derive(Clone, Debug)]
pub enum TemplatePart {
    /// Text to be taken as it is.
    Literal {
        /// The final text.
        text: String,
        /// Where it was written.
        span: Span,
    },
    /// `${ … }`
    Interpolation {
        /// What stands inside.
        expr: Box<Expr>,
        /// From `${` to `}`.
        span: Span,
    },
    /// `%{ if … }…%{ else }…%{ endif }`
    If(Box<TemplateIf>),
    /// `%{ for … }…%{ endfor }`
    For(Box<TemplateFor>),
}

/// `%{ if … }…%{ else }…%{ endif }`
#[derive(Clone, Debug)]
pub struct TemplateIf {
    /// After `if`.
    pub condition: Expr,
    /// What stands up to `else` or `endif`.
    pub then: Vec<TemplatePart>,
    /// What stands after `else`; empty without one.
    pub otherwise: Vec<TemplatePart>,
    /// From `%{ if` to the end of `endif }`.
    pub span: Span,
}

/// `%{ for … }…%{ endfor }`
#[derive(Clone, Debug)]
pub struct TemplateFor {
    /// `k` in `for k, v in c`.
    pub key: Option<Ident>,
    /// `v` in `for v in c`.
    pub value: Ident,
    /// After `in`.
    pub collection: Expr,
    /// What is repeated.
    pub body: Vec<TemplatePart>,
    /// From `%{ for` to the end of `endfor }`.
    pub span: Span,
}

/// `key = value` in an object.
#[derive(Clone, Debug)]
pub struct ObjectItem {
    /// Before the `=` or `:`.
    pub key: ObjectKey,
    /// After it.
    pub value: Expr,
}

/// The key of an object item.
#[derive(Clone, Debug)]
pub enum ObjectKey {
    /// A bare word: stands for its own name, also `true`, `null`, `if`.
    Name(Ident),
    /// Anything else: evaluated, then made text.
    Expr(Expr),
}

impl ObjectKey {
    /// Where it stands.
    pub fn span(&self) -> Span {
        match self {
            Self::Name(ident) => ident.span,
            Self::Expr(expr) => expr.span,
        }
    }
}

/// `f(a, b...)`
#[derive(Clone, Debug)]
pub struct Call {
    /// The name with its namespaces: `f`, `provider::x::f`.
    pub name: Ident,
    /// The arguments.
    pub args: Vec<Expr>,
    /// `...` after the last argument: it is a list of arguments.
    pub expand: Option<Span>,
    /// From `(` to `)`.
    pub parens: Span,
}

/// `[for x in c : v if p]`, `{for k, v in c : kk => vv...}`
#[derive(Clone, Debug)]
pub struct For {
    /// `k` in `for k, v in c`.
    pub key: Option<Ident>,
    /// `v` in `for v in c`.
    pub value: Ident,
    /// After `in`.
    pub collection: Expr,
    /// What it makes.
    pub result: ForResult,
    /// After `if`.
    pub condition: Option<Expr>,
}

/// What a `for` expression makes.
#[derive(Clone, Debug)]
pub enum ForResult {
    /// `[for … : item]`
    Tuple {
        /// After the `:`.
        item: Expr,
    },
    /// `{for … : key => value}`
    Object {
        /// Before the `=>`.
        key: Expr,
        /// After it.
        value: Expr,
        /// `...`: values of equal keys are gathered in tuples.
        group: bool,
    },
}

/// `p ? a : b`
#[derive(Clone, Debug)]
pub struct Conditional {
    /// Before `?`.
    pub condition: Expr,
    /// Between `?` and `:`.
    pub then: Expr,
    /// After `:`.
    pub otherwise: Expr,
}

/// `a + b`
#[derive(Clone, Debug)]
pub struct Binary {
    /// What is done.
    pub op: BinaryOp,
    /// Where the operator stands.
    pub op_span: Span,
    /// Before the operator.
    pub left: Expr,
    /// After the operator.
    pub right: Expr,
}

/// `-a`, `!a`
#[derive(Clone, Debug)]
pub struct Unary {
    /// What is done.
    pub op: UnaryOp,
    /// Where the operator stands.
    pub op_span: Span,
    /// After the operator.
    pub operand: Expr,
}

/// An operator between two operands, by rising strength.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BinaryOp {
    /// `||`
    Or,
    /// `&&`
    And,
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
    /// `+`
    Add,
    /// `-`
    Subtract,
    /// `*`
    Multiply,
    /// `/`
    Divide,
    /// `%`
    Modulo,
}

impl BinaryOp {
    /// As it is written.
    pub fn symbol(self) -> &'static str {
        match self {
            Self::Or => "||",
            Self::And => "&&",
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Modulo => "%",
        }
    }
}

/// An operator before its operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UnaryOp {
    /// `-`
    Negate,
    /// `!`
    Not,
}

impl UnaryOp {
    /// As it is written.
    pub fn symbol(self) -> &'static str {
        match self {
            Self::Negate => "-",
            Self::Not => "!",
        }
    }
}

/// `a.b[c].0`: one or more steps from a value into it.
#[derive(Clone, Debug)]
pub struct Traversal {
    /// Where it starts; never itself a traversal.
    pub base: Box<Expr>,
    /// The steps; at least one.
    pub steps: Vec<Step>,
}

/// One step into a value.
#[derive(Clone, Debug)]
pub enum Step {
    /// `.name`
    Attr {
        /// The name.
        name: Ident,
        /// From the point to the end of the name.
        span: Span,
    },
    /// `[key]`
    Index {
        /// Between the brackets.
        key: Expr,
        /// From `[` to `]`.
        span: Span,
    },
    /// `.0`
    LegacyIndex {
        /// The digits as written.
        digits: String,
        /// From the point to the last digit.
        span: Span,
    },
}

impl Step {
    /// Where it stands.
    pub fn span(&self) -> Span {
        match self {
            Self::Attr { span, .. } | Self::Index { span, .. } | Self::LegacyIndex { span, .. } => {
                *span
            }
        }
    }
}

/// `source.*.a.b` or `source[*].a[0]`
#[derive(Clone, Debug)]
pub struct Splat {
    /// The collection, or a single value to be seen as a list of one.
    pub source: Box<Expr>,
    /// Which of the two.
    pub form: SplatForm,
    /// The `.*` or `[*]`.
    pub marker: Span,
    /// What is made of each element, which stands in it as [`ExprKind::SplatItem`]. A splat within
    /// (`a[*].b[*].c`) has an item of its own in *its* `each`, while its `source` is made from
    /// this one's.
    pub each: Box<Expr>,
}

/// The two spellings of a splat. They differ in what the parser takes into [`Splat::each`]:
/// `.*` takes only names and `.0`, `[*]` everything that follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SplatForm {
    /// `.*`
    Attribute,
    /// `[*]`
    Full,
}

impl Template {
    /// The expression of a template that is nothing but one interpolation: its value is that of
    /// the expression, of whatever type. Every other template is a string.
    pub fn wrapped(&self) -> Option<&Expr> {
        match self.parts.as_slice() {
            [TemplatePart::Interpolation { expr, .. }] => Some(expr),
            _ => None,
        }
    }

    /// The text of a template without holes.
    pub fn as_literal(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [] => Some(""),
            [TemplatePart::Literal { text, .. }] => Some(text),
            _ => None,
        }
    }
}

impl Expr {
    /// An expression at a place.
    pub fn new(kind: ExprKind, span: Span) -> Self {
        let mut height = 0;
        kind.each_child(&mut |child| height = height.max(child.height + 1));
        Self { kind, span, height }
    }

    /// How many expressions lie one in the other below this one; at most [`MAX_HEIGHT`] when it
    /// comes from a parser.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// Whether this is a name with steps that need no evaluation, `a.b[0]`: as a key of an object it
    /// could mean the text or the value.
    pub fn is_absolute_traversal(&self) -> bool {
        let ExprKind::Traversal(traversal) = &self.kind else { return false };
        matches!(traversal.base.kind, ExprKind::Variable(_))
            && traversal.steps.iter().all(|step| match step {
                Step::Index { key, .. } => {
                    matches!(key.kind, ExprKind::Number(_)) || key.as_literal_str().is_some()
                }
                _ => true,
            })
    }

    /// The text, if this is a template without holes.
    pub fn as_literal_str(&self) -> Option<&str> {
        match &self.kind {
            ExprKind::Template(template) => template.as_literal(),
            _ => None,
        }
    }

    /// The word, if this is a bare one: `string`, `true`, `null`.
    pub fn as_keyword(&self) -> Option<&str> {
        match &self.kind {
            ExprKind::Variable(ident) => Some(&ident.name),
            ExprKind::Null => Some("null"),
            ExprKind::Bool(true) => Some("true"),
            ExprKind::Bool(false) => Some("false"),
            _ => None,
        }
    }

    /// Calls `f` with every expression directly inside this one, in the order of the text.
    pub fn each_child<'a>(&'a self, f: &mut dyn FnMut(&'a Expr)) {
        self.kind.each_child(f);
    }
}

impl ExprKind {
    fn each_child<'a>(&'a self, f: &mut dyn FnMut(&'a Expr)) {
        match self {
            Self::Null
            | Self::Bool(_)
            | Self::Number(_)
            | Self::Variable(_)
            | Self::SplatItem
            | Self::Error => {}
            Self::Template(template) => each_in_parts(&template.parts, f),
            Self::Tuple(items) => items.iter().for_each(f),
            Self::Object(items) => {
                for item in items {
                    if let ObjectKey::Expr(key) = &item.key {
                        f(key);
                    }
                    f(&item.value);
                }
            }
            Self::Call(call) => call.args.iter().for_each(f),
            Self::For(expr) => {
                f(&expr.collection);
                match &expr.result {
                    ForResult::Tuple { item } => f(item),
                    ForResult::Object { key, value, .. } => {
                        f(key);
                        f(value);
                    }
                }
                expr.condition.iter().for_each(f);
            }
            Self::Conditional(expr) => {
                f(&expr.condition);
                f(&expr.then);
                f(&expr.otherwise);
            }
            Self::Binary(expr) => {
                f(&expr.left);
                f(&expr.right);
            }
            Self::Unary(expr) => f(&expr.operand),
            Self::Parens(expr) => f(expr),
            Self::Traversal(traversal) => {
                f(&traversal.base);
                for step in &traversal.steps {
                    if let Step::Index { key, .. } = step {
                        f(key);
                    }
                }
            }
            Self::Splat(splat) => {
                f(&splat.source);
                f(&splat.each);
            }
        }
    }
}

fn each_in_parts<'a>(parts: &'a [TemplatePart], f: &mut dyn FnMut(&'a Expr)) {
    for part in parts {
        match part {
            TemplatePart::Literal { .. } => {}
            TemplatePart::Interpolation { expr, .. } => f(expr),
            TemplatePart::If(part) => {
                f(&part.condition);
                each_in_parts(&part.then, f);
                each_in_parts(&part.otherwise, f);
            }
            TemplatePart::For(part) => {
                f(&part.collection);
                each_in_parts(&part.body, f);
            }
        }
    }
}
