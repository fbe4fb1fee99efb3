//! `-only` and `-except`.

use std::fmt;

use globset::{GlobBuilder, GlobMatcher};
use karat_template::Build;

/// Which builds a command is about.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    only: Vec<Pattern>,
    except: Vec<Pattern>,
    /// Whether the template is a legacy one, where builds go by their builders' names.
    legacy: bool,
}

#[derive(Clone, Debug)]
enum Pattern {
    Glob(GlobMatcher),
    /// This name and no other.
    Name(String),
}

impl Pattern {
    fn matches(&self, name: &str) -> bool {
        match self {
            Self::Glob(glob) => glob.is_match(name),
            Self::Name(own) => own == name,
        }
    }

    fn text(&self) -> &str {
        match self {
            Self::Glob(glob) => glob.glob().glob(),
            Self::Name(own) => own,
        }
    }
}

/// A pattern that is no glob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelectionError {
    /// The flag.
    pub flag: &'static str,
    /// The pattern.
    pub pattern: String,
    /// What is wrong with it.
    pub reason: String,
}

impl fmt::Display for SelectionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "-{}: \"{}\" is not a pattern: {}", self.flag, self.pattern, self.reason)
    }
}

impl std::error::Error for SelectionError {}

impl Selection {
    /// A selection by globs, in which `*` also stands for points. With no `only`, all builds.
    ///
    /// # Errors
    /// When a pattern is not a glob.
    pub fn new(only: &[String], except: &[String]) -> Result<Self, SelectionError> {
        Ok(Self { only: globs("only", only)?, except: globs("except", except)?, legacy: false })
    }

    /// A selection of a legacy template's builds by the names of their builders.
    #[must_use]
    pub fn by_name(only: &[String], except: &[String]) -> Self {
        let only = only.iter().cloned().map(Pattern::Name).collect();
        // `-only=` names no build, but `-except=` none that is to be told of.
        let except = except.iter().filter(|n| !n.is_empty());
        Self { only, except: except.cloned().map(Pattern::Name).collect(), legacy: true }
    }

    /// Whether the build is selected.
    pub fn selects(&self, build: &Build) -> bool {
        let name = self.name(build);
        (self.only.is_empty() || matches(&self.only, &[name])) && !matches(&self.except, &[name])
    }

    /// What a pattern is held against: `type.name`, in a named build `build.type.name`.
    fn name<'b>(&self, build: &'b Build) -> &'b str {
        if self.legacy { &build.local_name } else { &build.target }
    }

    /// The patterns, each with its flag, that match no build, and none of its post-processors
    /// where that would count.
    pub fn idle(&self, builds: &[Build]) -> Vec<(&'static str, &str)> {
        let named = |pattern: &Pattern| builds.iter().any(|b| pattern.matches(self.name(b)));
        let cuts = |pattern: &Pattern| {
            let alone = Self { only: Vec::new(), except: vec![pattern.clone()], ..*self };
            let mut all = builds.iter().flat_map(|b| b.chains.iter().flatten());
            all.any(|p| alone.cuts(p.name.as_deref(), &p.component.type_name))
        };
        let only = self.only.iter().filter(|p| !named(p)).map(|p| ("only", p.text()));
        let except = self.except.iter().filter(|p| !named(p) && !cuts(p));
        only.chain(except.map(|p| ("except", p.text()))).collect()
    }

    /// Whether a post-processor is left out, since `-except` names its name or type. The rest of
    /// its chain is left out with it. In a legacy template the type counts only where it is the
    /// name.
    pub fn cuts(&self, name: Option<&str>, type_name: &str) -> bool {
        let type_name = Some(type_name).filter(|_| !self.legacy || name.is_none());
        let names: Vec<&str> = name.into_iter().chain(type_name).collect();
        matches(&self.except, &names)
    }

    /// The build as it is to be run: post-processors that are left out are gone.
    #[must_use]
    pub fn trim(&self, mut build: Build) -> Build {
        for chain in &mut build.chains {
            let end = chain
                .iter()
                .position(|p| self.cuts(p.name.as_deref(), &p.component.type_name))
                .unwrap_or(chain.len());
            chain.truncate(end);
        }
        build.chains.retain(|chain| !chain.is_empty());
        build
    }
}

fn matches(patterns: &[Pattern], names: &[&str]) -> bool {
    patterns.iter().any(|pattern| names.iter().any(|name| pattern.matches(name)))
}

fn globs(flag: &'static str, patterns: &[String]) -> Result<Vec<Pattern>, SelectionError> {
    patterns
        .iter()
        .map(|pattern| {
            GlobBuilder::new(pattern)
                .literal_separator(false)
                .build()
                .map(|glob| Pattern::Glob(glob.compile_matcher()))
                .map_err(|e| SelectionError {
                    flag,
                    pattern: pattern.clone(),
                    reason: e.kind().to_string(),
                })
        })
        .collect()
}
