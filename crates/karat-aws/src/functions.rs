//! The functions `aws_secretsmanager` and `aws_secretsmanager_raw`, whose region and credentials
//! come from the environment.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::client::{Access, Aws, Explain};
use crate::data::{field, read};

/// Reads secrets, each once.
#[derive(Default)]
pub struct Secrets {
    known: Mutex<BTreeMap<String, Result<String, String>>>,
}

impl std::fmt::Debug for Secrets {
    /// The values are secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secrets").finish_non_exhaustive()
    }
}

impl Secrets {
    /// A whole secret as it is stored. Blocks; works inside of a runtime and outside.
    ///
    /// # Errors
    /// A sentence that says what is missing or what AWS answered.
    pub fn raw(&self, name: &str) -> Result<String, String> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        if let Some(answer) = known {
            return answer;
        }
        let answer = std::thread::scope(|scope| {
            let asked = scope.spawn(|| ask(name)).join();
            asked.unwrap_or_else(|_| Err("the question to AWS Secrets Manager failed".to_owned()))
        });
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(name.to_owned(), answer.clone());
        answer
    }

    /// A field of a secret; without a key, the only one.
    ///
    /// # Errors
    /// As [`raw`](Self::raw); also when there is no such field.
    pub fn field(&self, name: &str, key: Option<&str>) -> Result<String, String> {
        field(name, &self.raw(name)?, key.unwrap_or_default()).map_err(|e| told(&e))
    }
}

fn told(error: &karat_component::ComponentError) -> String {
    match error.hint() {
        Some(hint) => format!("{} ({hint})", error.chain()),
        None => error.chain(),
    }
}

fn ask(name: &str) -> Result<String, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| e.to_string())?;
    runtime.block_on(async {
        let access = Access { attempts: 5, ..Access::default() };
        let aws =
            Aws::connect(&access).await.or_tell("could not reach AWS").map_err(|e| told(&e))?;
        let secret = read(&aws, name, "", "").await.map_err(|e| told(&e))?;
        match secret.text.is_empty() {
            true => Err(format!("the secret {name} is binary")),
            false => Ok(secret.text),
        }
    })
}
