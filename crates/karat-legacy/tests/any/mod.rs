//! What holds for any text. Property tests and fuzzing run the same function.

use karat_hcl::diag::SourceMap;
use karat_legacy::{Options, fix, parse, upgrade};

/// Reads, checks, upgrades and fixes a template.
pub(crate) fn everything(text: &str) {
    let mut sources = SourceMap::new();
    let id = sources.add("template.json", text);
    let (template, _) = parse(id, text);
    template.check();
    for mend in [false, true] {
        let options = Options { annotations: mend, mend, has_builder: &|_| false };
        let upgraded = upgrade(&template, text, options).text;
        if mend {
            let id = sources.add("template.pkr.hcl", upgraded.as_str());
            karat_hcl::parse(id, &upgraded);
        }
    }
    let (value, diags) = karat_hcl::json_text::read(id, text);
    if !diags.has_errors()
        && let Ok(fixed) = fix::fix(&value)
    {
        let id = sources.add("fixed", fixed.as_str());
        assert!(!karat_hcl::json_text::read(id, &fixed).1.has_errors(), "{fixed}");
    }
}
