//! Rewriters of provisioners and post-processors.

use super::builders::{key, rename_type};
use super::json::{Json, Object};

type Fixed = Result<(), String>;

/// Lets `f` change each post-processor that is an object, also those within chains.
fn each_post_processor(root: &mut Object, mut f: impl FnMut(&mut Object)) -> Fixed {
    const KEY: &str = "post-processors";
    match root.get_mut(KEY) {
        None | Some(Json::Null) => Ok(()),
        Some(Json::Array(items)) => {
            for item in items {
                match item {
                    Json::Object(one) => f(one),
                    Json::Array(chain) => chain.iter_mut().for_each(|item| {
                        if let Json::Object(one) = item {
                            f(one);
                        }
                    }),
                    _ => {}
                }
            }
            Ok(())
        }
        Some(other) => Err(format!("\"{KEY}\" has to be an array, not {}", other.describe())),
    }
}

fn is_of(part: &Object, type_name: &str) -> bool {
    part.get("type").and_then(Json::as_text) == Some(type_name)
}

/// Lets `f` change each provisioner that is an object. What is no array becomes one.
fn each_provisioner(root: &mut Object, mut f: impl FnMut(&mut Object) -> Fixed) -> Fixed {
    let Some(key) = key(root, "Provisioners") else { return Ok(()) };
    let mut items = match root[&key].clone() {
        Json::Null => return Ok(()),
        Json::Array(items) => items,
        Json::Object(one) if one.is_empty() => return Ok(()),
        other => vec![other],
    };
    if items.is_empty() {
        return Ok(());
    }
    for item in &mut items {
        if let Json::Object(provisioner) = item {
            f(provisioner)?;
        }
    }
    root.insert("provisioners".into(), Json::Array(items));
    Ok(())
}

pub(super) fn vagrant_override(root: &mut Object) -> Fixed {
    each_post_processor(root, |part| {
        if !is_of(part, "vagrant") {
            return;
        }
        let providers = ["aws", "digitalocean", "virtualbox", "vmware"];
        let taken: Object = providers
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), part.remove(*name)?)))
            .collect();
        if !taken.is_empty() {
            part.insert("override".into(), Json::Object(taken));
        }
    })
}

pub(super) fn virtualbox_rename(root: &mut Object) -> Fixed {
    rename_type(root, "virtualbox", "virtualbox-iso")?;
    each_provisioner(root, |provisioner| {
        match provisioner.get_mut("override") {
            None | Some(Json::Null | Json::Array(_)) => {}
            Some(Json::Object(overrides)) => {
                if let Some(value) = overrides.remove("virtualbox") {
                    overrides.insert("virtualbox-iso".into(), value);
                }
            }
            Some(other) => {
                let found = other.describe();
                return Err(format!("\"override\" has to be an object, not {found}"));
            }
        }
        Ok(())
    })
}

pub(super) fn manifest_filename(root: &mut Object) -> Fixed {
    each_post_processor(root, |part| {
        if is_of(part, "manifest")
            && let Some(Json::Text(_)) = part.get("filename")
            && let Some(name) = part.remove("filename")
        {
            part.insert("output".into(), name);
        }
    })
}

pub(super) fn docker_email(root: &mut Object) -> Fixed {
    if matches!(root.get("post-processors"), None | Some(Json::Null)) {
        return Ok(());
    }
    if let Some(Json::Array(builders)) = root.get_mut("builders") {
        for builder in builders {
            if let Json::Object(builder) = builder {
                builder.remove("login_email");
            }
        }
    }
    each_post_processor(root, |part| {
        part.remove("login_email");
    })
}

pub(super) fn docker_tags(root: &mut Object) -> Fixed {
    let mut wrong = None;
    each_post_processor(root, |part| {
        if !is_of(part, "docker-tag") {
            return;
        }
        let mut tags: Vec<String> = Vec::new();
        for name in ["tag", "tags"] {
            let found: Vec<String> = match part.get(name) {
                Some(Json::Text(list)) => list.split(',').map(|t| t.trim().to_owned()).collect(),
                Some(Json::Array(items)) => items
                    .iter()
                    .filter_map(|item| match item {
                        Json::Text(tag) => Some(tag.clone()),
                        other => {
                            wrong = Some(other.describe());
                            None
                        }
                    })
                    .collect(),
                _ => Vec::new(),
            };
            for tag in found {
                if !tags.contains(&tag) {
                    tags.push(tag);
                }
            }
        }
        part.remove("tag");
        part.insert("tags".into(), Json::Array(tags.into_iter().map(Json::Text).collect()));
    })?;
    match wrong {
        Some(found) => Err(format!("a tag of docker-tag has to be a string, not {found}")),
        None => Ok(()),
    }
}

pub(super) fn powershell_escapes(root: &mut Object) -> Fixed {
    each_provisioner(root, |provisioner| {
        if !is_of(provisioner, "powershell") {
            return Ok(());
        }
        let variables = match provisioner.get("environment_vars") {
            None => None,
            Some(Json::Null) => Some(Vec::new()),
            Some(Json::Array(items)) => {
                let texts = items.iter().map(|item| match item {
                    Json::Null => Some(""),
                    other => other.as_text(),
                });
                match texts.collect::<Option<Vec<&str>>>() {
                    Some(texts) => Some(texts.into_iter().map(|t| Json::Text(plain(t))).collect()),
                    None => return Ok(()),
                }
            }
            Some(_) => return Ok(()),
        };
        for name in ["elevated_user", "elevated_password"] {
            match provisioner.get_mut(name) {
                None => {}
                Some(Json::Text(text)) => *text = plain(text),
                Some(other) => {
                    let found = other.describe();
                    return Err(format!("\"{name}\" has to be a string, not {found}"));
                }
            }
        }
        if let Some(variables) = variables {
            provisioner.insert("environment_vars".into(), Json::Array(variables));
        }
        Ok(())
    })
}

/// Takes away the backquotes that PowerShell escapes characters with.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let rest = chars.as_str();
        match rest.chars().next() {
            Some(next @ ('$' | '"' | '`' | '\'')) if c == '`' => {
                out.push(next);
                chars.next();
            }
            _ => out.push(c),
        }
    }
    out
}

pub(super) fn galaxy_command(root: &mut Object) -> Fixed {
    each_provisioner(root, |provisioner| {
        if !is_of(provisioner, "ansible-local") {
            return Ok(());
        }
        if provisioner.contains_key("galaxy_command") {
            provisioner.remove("galaxycommand");
        } else if let Some(Json::Text(_)) = provisioner.get("galaxycommand")
            && let Some(command) = provisioner.remove("galaxycommand")
        {
            provisioner.insert("galaxy_command".into(), command);
        }
        Ok(())
    })
}
