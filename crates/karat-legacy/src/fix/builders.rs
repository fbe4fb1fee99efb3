//! Rewriters of builders.

use std::sync::LazyLock;

use regex::Regex;

use super::json::{Json, Object};

type Fixed = Result<(), String>;

/// The key of the root that is meant by `name`: in this case (Go's names are upper-case at their
/// start), or in any.
pub(super) fn key(root: &Object, name: &str) -> Option<String> {
    let exact = root.keys().find(|k| *k == name);
    exact.or_else(|| root.keys().find(|k| k.eq_ignore_ascii_case(name))).cloned()
}

/// Lets `f` change each builder. The template has `builders` afterwards, if only `null`.
fn each(root: &mut Object, mut f: impl FnMut(&mut Object) -> Fixed) -> Fixed {
    let mut builders = match key(root, "Builders") {
        Some(key) => root[&key].clone(),
        None => Json::Null,
    };
    match &mut builders {
        Json::Null => {}
        Json::Array(items) => {
            for (item, index) in items.iter_mut().zip(1..) {
                match item {
                    Json::Null => {}
                    Json::Object(builder) => f(builder)?,
                    other => {
                        let found = other.describe();
                        return Err(format!("builder {index} has to be an object, not {found}"));
                    }
                }
            }
        }
        other => {
            return Err(format!("\"builders\" has to be an array, not {}", other.describe()));
        }
    }
    root.insert("builders".into(), builders);
    Ok(())
}

/// Lets `f` change each builder of a type that `of` is true for.
fn of(root: &mut Object, of: impl Fn(&str) -> bool, mut f: impl FnMut(&mut Object)) -> Fixed {
    each(root, |builder| {
        if builder.get("type").and_then(Json::as_text).is_some_and(&of) {
            f(builder);
        }
        Ok(())
    })
}

fn amazon(type_name: &str) -> bool {
    type_name.starts_with("amazon-")
}

fn rename(object: &mut Object, from: &str, to: &str) {
    if let Some(value) = object.remove(from) {
        object.insert(to.into(), value);
    }
}

/// Renames an option unless the new one is there already; the old one goes in any case.
fn rename_unless_there(object: &mut Object, from: &str, to: &str) {
    if let Some(value) = object.remove(from) {
        object.entry(to.into()).or_insert(value);
    }
}

fn is_text(object: &Object, name: &str) -> bool {
    matches!(object.get(name), Some(Json::Text(_)))
}

fn is_bool(object: &Object, name: &str) -> bool {
    matches!(object.get(name), Some(Json::Bool(_)))
}

pub(super) fn iso_md5(root: &mut Object) -> Fixed {
    each(root, |builder| {
        if is_text(builder, "iso_md5") {
            rename(builder, "iso_md5", "iso_checksum");
            builder.insert("iso_checksum_type".into(), Json::Text("md5".into()));
        }
        Ok(())
    })
}

pub(super) fn create_time(root: &mut Object) -> Fixed {
    static CREATE_TIME: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"\{\{[\t\n\x0C\r ]*\.CreateTime[\t\n\x0C\r ]*\}\}").expect("it is fixed")
    });
    each(root, |builder| {
        for name in ["ami_name", "bundle_prefix", "snapshot_name"] {
            if let Some(Json::Text(text)) = builder.get_mut(name) {
                *text = CREATE_TIME.replace_all(text, "{{timestamp}}").into_owned();
            }
        }
        Ok(())
    })
}

pub(super) fn guest_additions(root: &mut Object) -> Fixed {
    of(
        root,
        |t| t == "virtualbox",
        |builder| {
            if let Some(Json::Bool(attach)) = builder.get("guest_additions_attach") {
                let mode = if *attach { "attach" } else { "upload" };
                builder.remove("guest_additions_attach");
                builder.insert("guest_additions_mode".into(), Json::Text(mode.into()));
            }
        },
    )
}

pub(super) fn vmware_rename(root: &mut Object) -> Fixed {
    of(root, |t| t == "vmware", |builder| set_type(builder, "vmware-iso"))
}

pub(super) fn proxmox_type(root: &mut Object) -> Fixed {
    of(root, |t| t == "proxmox", |builder| set_type(builder, "proxmox-iso"))
}

/// Gives a builder another type.
pub(super) fn set_type(builder: &mut Object, name: &str) {
    builder.insert("type".into(), Json::Text(name.into()));
}

/// The builders of a type become those of another, if there are any builders.
pub(super) fn rename_type(root: &mut Object, from: &str, to: &str) -> Fixed {
    of(root, |t| t == from, |builder| set_type(builder, to))
}

fn parallels(type_name: &str) -> bool {
    type_name == "parallels-iso" || type_name == "parallels-pvm"
}

pub(super) fn parallels_headless(root: &mut Object) -> Fixed {
    of(root, parallels, |builder| {
        builder.remove("headless");
    })
}

pub(super) fn parallels_deprecations(root: &mut Object) -> Fixed {
    of(root, parallels, |builder| {
        builder.remove("parallels_tools_host_path");
        rename(builder, "guest_os_distribution", "guest_os_type");
    })
}

pub(super) fn ssh_key_path(root: &mut Object) -> Fixed {
    each(root, |builder| {
        if is_text(builder, "ssh_key_path") {
            rename_unless_there(builder, "ssh_key_path", "ssh_private_key_file");
        }
        Ok(())
    })
}

pub(super) fn ssh_disable_agent(root: &mut Object) -> Fixed {
    each(root, |builder| {
        if is_bool(builder, "ssh_disable_agent") {
            rename_unless_there(builder, "ssh_disable_agent", "ssh_disable_agent_forwarding");
        }
        Ok(())
    })
}

pub(super) fn scaleway_access_key(root: &mut Object) -> Fixed {
    of(
        root,
        |t| t == "scaleway",
        |builder| {
            if is_text(builder, "access_key") {
                rename_unless_there(builder, "access_key", "organization_id");
            }
        },
    )
}

pub(super) fn amazon_shutdown_behavior(root: &mut Object) -> Fixed {
    of(root, amazon, |builder| rename(builder, "shutdown_behaviour", "shutdown_behavior"))
}

pub(super) fn amazon_enhanced_networking(root: &mut Object) -> Fixed {
    of(root, amazon, |builder| {
        if is_bool(builder, "enhanced_networking") {
            rename(builder, "enhanced_networking", "ena_support");
        }
    })
}

pub(super) fn amazon_private_ip(root: &mut Object) -> Fixed {
    each(root, |builder| {
        let amazon = builder.get("type").and_then(Json::as_text).is_some_and(amazon);
        if !amazon || builder.contains_key("ssh_interface") {
            return Ok(());
        }
        let private = match builder.get("ssh_private_ip") {
            None => return Ok(()),
            Some(Json::Bool(private)) => *private,
            Some(Json::Text(text)) => match text.as_str() {
                "1" | "t" | "T" | "TRUE" | "true" | "True" => true,
                "0" | "f" | "F" | "FALSE" | "false" | "False" => false,
                other => return Err(format!("ssh_private_ip is not a boolean: \"{other}\"")),
            },
            Some(other) => {
                return Err(format!("ssh_private_ip is not a boolean: it is {}", other.describe()));
            }
        };
        builder.remove("ssh_private_ip");
        let interface = if private { "private_ip" } else { "public_ip" };
        builder.insert("ssh_interface".into(), Json::Text(interface.into()));
        Ok(())
    })
}

pub(super) fn amazon_source_cidr(root: &mut Object) -> Fixed {
    of(root, amazon, |builder| {
        const OLD: &str = "temporary_security_group_source_cidr";
        if is_text(builder, OLD)
            && let Some(cidr) = builder.remove(OLD)
        {
            builder.insert(format!("{OLD}s"), Json::Array(vec![cidr]));
        }
    })
}

pub(super) fn vmware_compaction(root: &mut Object) -> Fixed {
    of(
        root,
        |t| t == "vmware-iso",
        |builder| {
            if builder.get("remote_type").and_then(Json::as_text) != Some("esx5") {
                return;
            }
            let disk = builder.entry("disk_type_id".into());
            match disk.or_insert_with(|| Json::Text("zeroedthick".into())) {
                Json::Text(disk) if disk != "thin" => {}
                _ => return,
            }
            match builder.get("skip_compaction") {
                None | Some(Json::Bool(false)) => {
                    builder.insert("skip_compaction".into(), Json::Bool(true));
                }
                Some(_) => {}
            }
        },
    )
}

pub(super) fn hyperv_temp_path(root: &mut Object) -> Fixed {
    of(
        root,
        |t| t == "hyperv-iso",
        |builder| {
            builder.remove("vhd_temp_path");
        },
    )
}

pub(super) fn hyperv_clone_path(root: &mut Object) -> Fixed {
    of(
        root,
        |t| t == "hyperv-vmcx",
        |builder| {
            rename(builder, "clone_from_vmxc_path", "clone_from_vmcx_path");
        },
    )
}

pub(super) fn hyperv_size(root: &mut Object) -> Fixed {
    of(
        root,
        |t| t == "hyperv-vmcx" || t == "hyperv-iso",
        |builder| {
            rename(builder, "cpu", "cpus");
            rename(builder, "ram_size", "memory");
        },
    )
}

pub(super) fn clean_image_name(root: &mut Object) -> Fixed {
    let clean = |value: &mut Json| {
        if let Json::Text(text) = value {
            for old in ["clean_image_name", "clean_ami_name"] {
                *text = text.replace(old, "clean_resource_name");
            }
        }
    };
    each(root, |builder| {
        for value in builder.values_mut() {
            clean(value);
            if let Json::Object(members) = value {
                members.values_mut().for_each(clean);
            }
        }
        Ok(())
    })
}

pub(super) fn spot_price_product(root: &mut Object) -> Fixed {
    const TYPES: &[&str] =
        &["amazon-ebs", "amazon-ebssurrogate", "amazon-ebsvolume", "amazon-instance"];
    of(
        root,
        |t| TYPES.contains(&t),
        |builder| {
            builder.remove("spot_price_auto_product");
        },
    )
}

pub(super) fn qemu_disk_size(root: &mut Object) -> Fixed {
    of(
        root,
        |t| t == "qemu",
        |builder| {
            if let Some(size @ Json::Number(_)) = builder.get_mut("disk_size")
                && let Json::Number(megabytes) = *size
            {
                *size = Json::Text(format!("{}M", megabytes.trunc()));
            }
        },
    )
}

pub(super) fn communicator(root: &mut Object) -> Fixed {
    of(
        root,
        |t| t.starts_with("virtualbox"),
        |builder| {
            rename_unless_there(builder, "ssh_host_port_min", "host_port_min");
            rename_unless_there(builder, "ssh_host_port_max", "host_port_max");
            if builder.contains_key("skip_nat_mapping") || is_bool(builder, "ssh_skip_nat_mapping")
            {
                rename_unless_there(builder, "ssh_skip_nat_mapping", "skip_nat_mapping");
            }
        },
    )
}

pub(super) fn ssh_timeout(root: &mut Object) -> Fixed {
    each(root, |builder| {
        if builder.contains_key("ssh_timeout") || is_text(builder, "ssh_wait_timeout") {
            rename_unless_there(builder, "ssh_wait_timeout", "ssh_timeout");
        }
        Ok(())
    })
}

pub(super) fn vsphere_network_and_disk(root: &mut Object) -> Fixed {
    of(
        root,
        |t| t == "vsphere-iso",
        |builder| {
            let network = [
                ("network", "network"),
                ("networkCard", "network_card"),
                ("network_card", "network_card"),
            ];
            gather(builder, &network, "network_adapters");
            let disk = ["disk_size", "disk_thin_provisioned", "disk_eagerly_scrub"];
            gather(builder, &disk.map(|name| (name, name)), "storage");
        },
    )
}

/// Puts options into an object, and that before the others of a list.
fn gather(builder: &mut Object, options: &[(&str, &str)], list: &str) {
    if !matches!(builder.get(list), None | Some(Json::Array(_))) {
        return;
    }
    let taken: Object = options
        .iter()
        .filter_map(|(from, to)| Some(((*to).to_owned(), builder.remove(*from)?)))
        .collect();
    if taken.is_empty() {
        return;
    }
    let first = Json::Object(taken);
    match builder.get_mut(list) {
        Some(Json::Array(items)) => items.insert(0, first),
        _ => {
            builder.insert(list.into(), Json::Array(vec![first]));
        }
    }
}

pub(super) fn iso_checksum(root: &mut Object) -> Fixed {
    each(root, |builder| {
        let text = |value: Option<Json>| match value {
            Some(Json::Text(text)) => text,
            _ => String::new(),
        };
        let url = text(builder.remove("iso_checksum_url"));
        let kind = text(builder.remove("iso_checksum_type"));
        let checksum = text(builder.get("iso_checksum").cloned());
        let checksum = match (checksum.as_str(), url.as_str(), kind.as_str()) {
            ("", "", _) => return Ok(()),
            (checksum, "", "") => checksum.to_owned(),
            (checksum, "", kind) => format!("{kind}:{checksum}"),
            (_, url, _) => format!("file:{url}"),
        };
        builder.insert("iso_checksum".into(), Json::Text(checksum));
        Ok(())
    })
}

pub(super) fn qemu_host_port(root: &mut Object) -> Fixed {
    of(
        root,
        |t| t == "qemu",
        |builder| {
            rename(builder, "ssh_host_port_min", "host_port_min");
            rename(builder, "ssh_host_port_max", "host_port_max");
        },
    )
}

pub(super) fn azure_exclude(root: &mut Object) -> Fixed {
    of(
        root,
        |t| t.starts_with("azure-chroot"),
        |builder| {
            if let Some(Json::Object(destination)) = builder.get_mut("shared_image_destination") {
                rename(destination, "exlude_from_latest", "exclude_from_latest");
            }
        },
    )
}
