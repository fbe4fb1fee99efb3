//! What to say of a component that there is not: which plugin would bring it, and what there is.

use std::borrow::Cow;

use karat_component::{Components, PACKER, plugins};
use karat_config::ComponentKind;
use karat_hcl::diag::{Diagnostic, Span, closest};
use karat_template::PluginRequirement;

/// A component's type as its plugin names it, where the template calls the plugin by another name
/// in `required_plugins`.
pub fn own_type<'a>(
    components: &Components,
    kind: ComponentKind,
    type_name: &'a str,
    required: &[PluginRequirement],
) -> Cow<'a, str> {
    if components.has(kind, type_name) {
        return Cow::Borrowed(type_name);
    }
    let own = required.iter().find_map(|plugin| {
        let own = plugins::own_type(&plugin.name, &plugin.source, type_name)?;
        components.has(kind, &own).then_some(own)
    });
    own.map_or(Cow::Borrowed(type_name), Cow::Owned)
}

/// The error for a component whose type, at `span`, is not there. A kind comes with the word that
/// the template has for it.
pub fn unknown_component(
    components: &Components,
    (kind, word): (ComponentKind, &str),
    type_name: &str,
    span: Span,
    required: &[PluginRequirement],
) -> Diagnostic {
    let diagnostic = Diagnostic::error(format!("Unknown {word} type \"{type_name}\"")).at(span);
    let asked = required.iter().find(|plugin| plugin.brings(type_name));
    let own = asked.and_then(|p| plugins::own_type(&p.name, &p.source, type_name));
    let known = plugins::plugin_of(kind, own.as_deref().unwrap_or(type_name));
    match (known, asked) {
        (Some(plugin), _) if plugin.source == PACKER => diagnostic
            .detail(format!("Packer has a {word} \"{type_name}\"; this program has none yet."))
            .hint(there_is(components, kind, word)),
        (_, Some(plugin)) => from_plugin(diagnostic, word, type_name, &plugin.source)
            .also(plugin.span, "the plugin is asked for here")
            .hint(there_is(components, kind, word)),
        (Some(plugin), None) => from_plugin(diagnostic, word, type_name, plugin.source)
            .hint(there_is(components, kind, word)),
        (None, None) => misspelt(diagnostic, components, (kind, word), type_name),
    }
}

fn from_plugin(diagnostic: Diagnostic, word: &str, type_name: &str, source: &str) -> Diagnostic {
    diagnostic.detail(format!(
        "The {word} \"{type_name}\" belongs to the plugin {source}, which is not built in; plugins \
         that are not built in cannot be run yet."
    ))
}

fn misspelt(
    diagnostic: Diagnostic,
    components: &Components,
    (kind, word): (ComponentKind, &str),
    type_name: &str,
) -> Diagnostic {
    let diagnostic =
        diagnostic.detail(format!("This program has no {word} of the type \"{type_name}\"."));
    let own = components.types(kind);
    if let Some(best) = closest(type_name, own.iter().copied()) {
        return diagnostic.hint(format!("Did you mean \"{best}\"?"));
    }
    let diagnostic = match closest(type_name, plugins::known_types(kind))
        .and_then(|best| Some((best, plugins::plugin_of(kind, best)?)))
    {
        Some((best, plugin)) => diagnostic.hint(format!(
            "There is \"{best}\", of the plugin {}, which is not built in.",
            plugin.source
        )),
        None => diagnostic,
    };
    diagnostic.hint(there_is(components, kind, word))
}

/// What there is of a kind.
fn there_is(components: &Components, kind: ComponentKind, word: &str) -> String {
    let mut all = components.types(kind);
    all.sort_unstable();
    if all.is_empty() {
        return format!("There is no {word} yet.");
    }
    format!("Built in: {}.", all.join(", "))
}
