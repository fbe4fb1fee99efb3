//! What the process offers to steps: clients, event sinks, hooks. Never stored.

use std::any::{Any, TypeId, type_name};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use crate::step::StepError;

/// A map from a type to one shared value of it.
///
/// This is the only place of the crate in which a type is looked up at run time. It holds what cannot be
/// stored (an open client, a channel to the report); everything that steps tell each other goes through
/// outputs. Cloning is cheap.
#[derive(Clone, Default)]
pub struct Services {
    map: Arc<HashMap<TypeId, Entry>>,
}

#[derive(Clone)]
struct Entry {
    name: &'static str,
    // An `Arc<T>`, boxed, so that `T` may be a trait object.
    value: Arc<dyn Any + Send + Sync>,
}

impl Services {
    /// Offers nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a service, replacing one of the same type. `T` may be a trait object: `with::<dyn Sink>(sink)`.
    #[must_use]
    pub fn with<T: ?Sized + Send + Sync + 'static>(mut self, service: Arc<T>) -> Self {
        let entry = Entry { name: type_name::<T>(), value: Arc::new(service) };
        Arc::make_mut(&mut self.map).insert(TypeId::of::<T>(), entry);
        self
    }

    /// The service of this type.
    #[must_use]
    pub fn get<T: ?Sized + Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        self.map.get(&TypeId::of::<T>())?.value.downcast_ref::<Arc<T>>().cloned()
    }

    /// The service of this type.
    ///
    /// # Errors
    /// When nobody offers it: a fault of the program, told as a failure of the step that asked.
    pub fn require<T: ?Sized + Send + Sync + 'static>(&self) -> Result<Arc<T>, StepError> {
        self.get::<T>().ok_or_else(|| {
            StepError::new(format!("nothing offers the service `{}` here", type_name::<T>()))
                .with_hint("this is a bug: the program did not pass what the step needs")
        })
    }
}

impl fmt::Debug for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.map.values().map(|entry| entry.name)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    trait Greet: Send + Sync {
        fn greet(&self) -> String;
    }

    struct Loud;

    impl Greet for Loud {
        fn greet(&self) -> String {
            "HELLO".to_owned()
        }
    }

    #[test]
    fn values_and_trait_objects_are_found_by_type() {
        let base = Services::new().with(Arc::new(7_u32));
        let more = base.clone().with::<dyn Greet>(Arc::new(Loud));
        assert_eq!(base.get::<u32>().as_deref(), Some(&7));
        assert!(base.get::<dyn Greet>().is_none());
        assert_eq!(more.require::<dyn Greet>().unwrap().greet(), "HELLO");
        assert!(more.require::<u64>().unwrap_err().to_string().contains("u64"));
    }
}
