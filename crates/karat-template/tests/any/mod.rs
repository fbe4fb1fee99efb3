//! What holds for any template. Property tests and fuzzing run the same function.

use std::collections::BTreeMap;
use std::path::PathBuf;

use karat_config::Schema;
use karat_functions::MemoryWorld;
use karat_hcl::diag::Diagnostics;
use karat_template::{DataFetcher, DataRequest, Given, Inputs, Load, Loaded, load};
use karat_value::Value;

/// Gives each data source its options back.
struct Echo;

impl DataFetcher for Echo {
    fn schema(&self, _: &str) -> Option<Schema> {
        Some(Schema::default())
    }

    fn fetch(&self, request: DataRequest) -> Result<Value, Diagnostics> {
        let all = request.body.attributes.iter();
        Ok(Value::object_of(all.map(|(n, a)| (n.as_str(), a.value.clone()))))
    }
}

/// Reads and evaluates all there is, the bodies of components too, and adds what is wrong in them.
pub(crate) fn whole(name: &str, text: &str, flags: &[String]) -> Loaded {
    let path = PathBuf::from("/templates").join(name);
    let world = MemoryWorld {
        files: BTreeMap::from([(path, text.as_bytes().to_vec())]),
        env: BTreeMap::from([("PKR_VAR_a".to_owned(), "[1".to_owned())]),
        ..MemoryWorld::default()
    };
    let request = Load { path: PathBuf::from(name), ..Load::default() };
    let mut loaded = load(&request, &world);
    let given = Given { flags: flags.to_vec(), warn_undeclared: true };
    let evaluated = loaded.evaluate(&given, &world, &Echo);
    let artifacts = BTreeMap::new();
    let inputs = Inputs { world: &world, artifacts: &artifacts, generated: None, text: None };
    let schema = Schema::default();
    let mut bodies = Vec::new();
    for build in evaluated.builds() {
        bodies.push(evaluated.source_body(build, &schema, &inputs).err());
        for block in &build.provisioners {
            bodies.push(evaluated.provisioner_body(build, block, &schema, &inputs).err());
        }
        for block in build.chains.iter().flatten() {
            bodies.push(evaluated.post_processor_body(build, block, &schema, &inputs).err());
        }
    }
    bodies.into_iter().flatten().for_each(|found| loaded.diags.append(found));
    for diagnostic in &loaded.diags {
        assert!(!diagnostic.summary.is_empty());
        for label in diagnostic.primary.iter().chain(&diagnostic.secondary) {
            assert!(loaded.sources.get(label.span.source).is_some(), "{diagnostic:?}");
        }
    }
    assert!(loaded.early <= loaded.diags.len());
    loaded
}
