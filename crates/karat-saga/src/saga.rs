//! Named steps in order.

use std::sync::Arc;

use crate::step::{DynStep, Step};

/// A saga that cannot be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SagaError {
    /// Two nodes have one name.
    #[error("two steps of the saga `{saga}` are named `{node}`")]
    DuplicateNode {
        /// The saga's name.
        saga: String,
        /// The name that stands twice.
        node: String,
    },
    /// A node's name cannot be used in fault points and reports.
    #[error(
        "`{node}` in the saga `{saga}` is no name for a step: use letters, digits, `-`, `_` and `.`"
    )]
    BadName {
        /// The saga's name.
        saga: String,
        /// The name that was given.
        node: String,
    },
}

/// A step and its name in a saga.
#[derive(Debug, Clone)]
pub struct Node {
    /// Unique in its saga.
    pub name: String,
    /// The work.
    pub step: Arc<dyn DynStep>,
}

/// Steps in the order in which they run. They are undone in the reverse order.
///
/// ```ignore
/// let saga = Saga::new("amazon-ebs.web")
///     .step("key_pair", KeyPair { name, token })
///     .step("launch", Launch { token, image, size })
///     .build()?;
/// ```
#[derive(Debug, Clone)]
pub struct Saga {
    name: String,
    nodes: Vec<Node>,
}

/// Collects the steps of a [`Saga`].
#[derive(Debug)]
pub struct SagaBuilder {
    saga: Saga,
}

impl Saga {
    /// Starts a saga. The name is for people: reports and `recover` show it.
    #[expect(
        clippy::new_ret_no_self,
        reason = "a saga without steps is of no use; the builder checks names"
    )]
    pub fn new(name: impl Into<String>) -> SagaBuilder {
        SagaBuilder { saga: Self { name: name.into(), nodes: Vec::new() } }
    }

    /// The saga's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The nodes in order.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }
}

impl SagaBuilder {
    /// Adds a step after those before.
    #[must_use]
    pub fn step<S: Step>(self, name: impl Into<String>, step: S) -> Self {
        self.boxed(name, Box::new(step))
    }

    /// Adds an erased step after those before.
    #[must_use]
    pub fn boxed(mut self, name: impl Into<String>, step: Box<dyn DynStep>) -> Self {
        self.saga.nodes.push(Node { name: name.into(), step: Arc::from(step) });
        self
    }

    /// Adds a step of another saga after those before.
    #[must_use]
    pub fn shared(mut self, name: impl Into<String>, step: Arc<dyn DynStep>) -> Self {
        self.saga.nodes.push(Node { name: name.into(), step });
        self
    }

    /// Ends the list.
    ///
    /// # Errors
    /// When two nodes have one name, or a name is empty or holds other characters than letters, digits, `-`,
    /// `_` and `.`.
    pub fn build(self) -> Result<Saga, SagaError> {
        let Self { saga } = self;
        for (index, node) in saga.nodes.iter().enumerate() {
            if !is_name(&node.name) {
                return Err(SagaError::BadName { saga: saga.name, node: node.name.clone() });
            }
            if saga.nodes[..index].iter().any(|earlier| earlier.name == node.name) {
                return Err(SagaError::DuplicateNode { saga: saga.name, node: node.name.clone() });
            }
        }
        Ok(saga)
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | '.'))
}
