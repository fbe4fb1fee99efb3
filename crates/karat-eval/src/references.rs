//! The names that an expression uses.

use karat_hcl::ast::{Expr, ExprKind, ForResult, Ident, ObjectKey, Step, TemplatePart};
use karat_hcl::diag::Span;

/// A name that an expression uses, with the steps after it as far as they are constant:
/// `var.a["b"][0]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Reference {
    /// The first name.
    pub root: Ident,
    /// What follows it, up to the first index that is not constant.
    pub steps: Vec<ReferenceStep>,
    /// All of it.
    pub span: Span,
}

/// A constant step of a [`Reference`].
#[derive(Clone, Debug, PartialEq)]
pub enum ReferenceStep {
    /// `.name`, or `["name"]`.
    Name(Ident),
    /// `[0]`, or `.0`: the digits.
    Index(String, Span),
}

impl ReferenceStep {
    /// The name, if it is one.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Name(ident) => Some(&ident.name),
            Self::Index(..) => None,
        }
    }
}

/// All names that an expression uses and that do not come from a `for` in it, in the order of the
/// text; with repetitions.
pub fn references(expr: &Expr) -> Vec<Reference> {
    let mut finder = Finder { bound: Vec::new(), found: Vec::new() };
    finder.expr(expr);
    finder.found
}

/// The reference that an expression is, if it is nothing else: `null.example`, `source.a.b`.
pub fn static_reference(expr: &Expr) -> Option<Reference> {
    match &expr.kind {
        ExprKind::Variable(root) => {
            Some(Reference { root: root.clone(), steps: Vec::new(), span: expr.span })
        }
        ExprKind::Traversal(traversal) => {
            let ExprKind::Variable(root) = &traversal.base.kind else { return None };
            let steps: Vec<ReferenceStep> = traversal.steps.iter().map_while(constant).collect();
            (steps.len() == traversal.steps.len()).then(|| Reference {
                root: root.clone(),
                steps,
                span: expr.span,
            })
        }
        _ => None,
    }
}

fn constant(step: &Step) -> Option<ReferenceStep> {
    match step {
        Step::Attr { name, .. } => Some(ReferenceStep::Name(name.clone())),
        Step::LegacyIndex { digits, span } => Some(ReferenceStep::Index(digits.clone(), *span)),
        Step::Index { key, span } => match &key.kind {
            ExprKind::Number(digits) => Some(ReferenceStep::Index(digits.clone(), *span)),
            _ => key.as_literal_str().map(|name| ReferenceStep::Name(Ident::new(name, *span))),
        },
    }
}

struct Finder<'e> {
    bound: Vec<&'e str>,
    found: Vec<Reference>,
}

impl<'e> Finder<'e> {
    fn expr(&mut self, expr: &'e Expr) {
        match &expr.kind {
            ExprKind::Variable(root) => self.add(root, &[], expr.span),
            ExprKind::Traversal(traversal) => {
                match &traversal.base.kind {
                    ExprKind::Variable(root) => self.add(root, &traversal.steps, expr.span),
                    _ => self.expr(&traversal.base),
                }
                for step in &traversal.steps {
                    if let Step::Index { key, .. } = step {
                        self.expr(key);
                    }
                }
            }
            ExprKind::For(expr) => {
                self.expr(&expr.collection);
                let bound = self.bind(expr.key.as_ref(), &expr.value);
                match &expr.result {
                    ForResult::Tuple { item } => self.expr(item),
                    ForResult::Object { key, value, .. } => {
                        self.expr(key);
                        self.expr(value);
                    }
                }
                expr.condition.iter().for_each(|condition| self.expr(condition));
                self.bound.truncate(bound);
            }
            ExprKind::Template(template) => self.parts(&template.parts),
            ExprKind::Object(items) => {
                for item in items {
                    if let ObjectKey::Expr(key) = &item.key {
                        self.expr(key);
                    }
                    self.expr(&item.value);
                }
            }
            // The type in convert(value, type) is no value.
            ExprKind::Call(call) if call.name.name == "convert" && call.args.len() == 2 => {
                self.expr(&call.args[0]);
            }
            _ => expr.each_child(&mut |child| self.expr(child)),
        }
    }

    fn parts(&mut self, parts: &'e [TemplatePart]) {
        for part in parts {
            match part {
                TemplatePart::Literal { .. } => {}
                TemplatePart::Interpolation { expr, .. } => self.expr(expr),
                TemplatePart::If(part) => {
                    self.expr(&part.condition);
                    self.parts(&part.then);
                    self.parts(&part.otherwise);
                }
                TemplatePart::For(part) => {
                    self.expr(&part.collection);
                    let bound = self.bind(part.key.as_ref(), &part.value);
                    self.parts(&part.body);
                    self.bound.truncate(bound);
                }
            }
        }
    }

    /// Binds the names of a `for`; gives how many were bound before.
    fn bind(&mut self, key: Option<&'e Ident>, value: &'e Ident) -> usize {
        let before = self.bound.len();
        self.bound.extend(key.into_iter().chain([value]).map(|ident| ident.name.as_str()));
        before
    }

    fn add(&mut self, root: &Ident, steps: &[Step], span: Span) {
        if !self.bound.contains(&root.name.as_str()) {
            let steps = steps.iter().map_while(constant).collect();
            self.found.push(Reference { root: root.clone(), steps, span });
        }
    }
}
