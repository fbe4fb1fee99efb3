//! The scripts that move files. They run in the PowerShell that every Windows has, version 3 and up.
//!
//! Both ways a stream of lines is spoken: `>` and a path begins a file, `<` and a path makes a
//! folder, anything else is content of the file. Paths are UTF-8, and all is in base64, so that no
//! code page of a console changes it.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Gives texts of base64, and paths as PowerShell has them: with variables of the environment, in
/// the form of `cmd.exe` and in that of PowerShell, and from the user's folder on.
const COMMON: &str = r#"
$ErrorActionPreference='Stop'
$ProgressPreference='SilentlyContinue'
function Get-Plain($packed){[Text.Encoding]::UTF8.GetString([Convert]::FromBase64String($packed))}
function Get-Packed($plain){[Convert]::ToBase64String([Text.Encoding]::UTF8.GetBytes($plain))}
function Get-Place($given){
$given=$ExecutionContext.InvokeCommand.ExpandString([Environment]::ExpandEnvironmentVariables($given))
$ExecutionContext.SessionState.Path.GetUnresolvedProviderPathFromPSPath($given)}
"#;

/// Writes files below a folder. A file has another name until it is whole.
const RECEIVE: &str = r#"
$root=Get-Place (Get-Plain $at)
$file=$null
function Complete-File{if($script:file){$script:file.Close();$script:file=$null
if(Test-Path -LiteralPath $script:place -PathType Container){throw "$script:place is a folder"}
Move-Item -LiteralPath $script:part -Destination $script:place -Force}}
}
process{
$line=[string]$_
if($line.StartsWith('>') -or $line.StartsWith('<')){
Complete-File
$name=Get-Plain $line.Substring(1)
$place=$root
if($name){$place=Join-Path $root $name}
if($line[0] -eq '<'){[void](New-Item -ItemType Directory -Force -Path $place)}
else{
$folder=Split-Path -Parent $place
if($folder -and -not (Test-Path -LiteralPath $folder)){[void](New-Item -ItemType Directory -Force -Path $folder)}
$part="$place.part"
$file=[IO.File]::Create($part)}}
elseif($line){$bytes=[Convert]::FromBase64String($line);$file.Write($bytes,0,$bytes.Length)}
}
end{Complete-File}
"#;

/// Sends a file, or a folder with all that is below it.
const SEND: &str = r#"
$root=Get-Place (Get-Plain $at)
if(-not (Test-Path -LiteralPath $root)){throw "$root does not exist"}
$buffer=New-Object byte[] 49152
function Send-File($path,$name){
[Console]::Out.WriteLine('>'+(Get-Packed $name))
$file=[IO.File]::OpenRead($path)
try{while(($count=$file.Read($buffer,0,$buffer.Length)) -gt 0){[Console]::Out.WriteLine([Convert]::ToBase64String($buffer,0,$count))}}
finally{$file.Close()}}
if(Test-Path -LiteralPath $root -PathType Leaf){if($folder){throw "$root is no folder"};Send-File $root ''}
elseif(-not $folder){throw "$root is a folder"}
else{
$skip=$root.TrimEnd('\').Length+1
Get-ChildItem -LiteralPath $root -Recurse -Force|ForEach-Object{
$name=$_.FullName.Substring($skip).Replace('\','/')
if($_.PSIsContainer){[Console]::Out.WriteLine('<'+(Get-Packed $name))}else{Send-File $_.FullName $name}}}
"#;

const REMOVE: &str = r#"
foreach($name in $names){$place=Get-Place (Get-Plain $name)
if(Test-Path -LiteralPath $place){Remove-Item -LiteralPath $place -Force -Recurse}}
"#;

fn packed(text: &str) -> String {
    STANDARD.encode(text)
}

/// Takes lines, and writes files at or below a path.
pub(crate) fn receive(to: &str) -> String {
    format!("begin{{{COMMON}$at='{}'{RECEIVE}", packed(to))
}

/// Prints lines: the file at a path, or the folder.
pub(crate) fn send(from: &str, folder: bool) -> String {
    let folder = if folder { "$true" } else { "$false" };
    format!("{COMMON}$at='{}';$folder={folder}{SEND}", packed(from))
}

/// Removes files.
pub(crate) fn remove<'a>(paths: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<String> = paths.into_iter().map(|path| format!("'{}'", packed(path))).collect();
    format!("{COMMON}$names=@({}){REMOVE}", names.join(","))
}

/// The command line that runs a script.
pub(crate) fn line(script: &str) -> String {
    let wide: Vec<u8> = script.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let script = STANDARD.encode(wide);
    format!(
        "powershell.exe -NoProfile -NonInteractive -ExecutionPolicy Bypass -EncodedCommand {script}"
    )
}

/// A line that begins a file, or a folder.
pub(crate) fn heading(mark: char, name: &str) -> String {
    format!("{mark}{}\r\n", packed(name))
}

/// What PowerShell prints of its errors where nobody reads its objects, as text.
pub(crate) fn plain(printed: &[u8]) -> String {
    let text = String::from_utf8_lossy(printed);
    let Some((before, xml)) = text.split_once("#< CLIXML") else { return text.trim().to_owned() };
    let Ok(document) = roxmltree::Document::parse(xml.trim()) else {
        return text.trim().to_owned();
    };
    let mut found = before.to_owned();
    let errors = document.descendants().filter(|n| n.attribute("S") == Some("Error"));
    for piece in errors.filter_map(|n| n.text()) {
        let _ = write!(found, "{}", piece.replace("_x000D_", "").replace("_x000A_", "\n"));
    }
    // What it says first is what went wrong; then come places in a script that nobody sees.
    let lines = found.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.take_while(|line| !line.starts_with("At line:")).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a parser of the language cannot read.
    fn wrong(script: &str) -> Vec<String> {
        let mut parser = tree_sitter::Parser::new();
        parser.set_language(&tree_sitter_powershell::LANGUAGE.into()).unwrap();
        let tree = parser.parse(script, None).unwrap();
        let mut found = Vec::new();
        let mut left = vec![tree.root_node()];
        while let Some(node) = left.pop() {
            if node.is_error() || node.is_missing() {
                found.push(script[node.byte_range()].to_owned());
            }
            left.extend((0..node.child_count()).filter_map(|n| node.child(n as u32)));
        }
        found
    }

    #[test]
    fn scripts_are_powershell() {
        for script in [
            receive("C:/Windows/Temp/a 'b'"),
            send("$env:TEMP", true),
            send("x", false),
            remove(["a", "b"]),
        ] {
            assert_eq!(wrong(&script), Vec::<String>::new(), "{script}");
        }
        assert_ne!(wrong("if(1 -eq {"), Vec::<String>::new());
    }

    #[test]
    fn lines_are_short_enough_for_any_windows() {
        let path = "C:/".to_owned() + &"p".repeat(250);
        for script in [receive(&path), send(&path, true)] {
            assert!(line(&script).len() < 8191, "{}", line(&script).len());
        }
    }

    #[test]
    fn errors_are_read_out_of_objects() {
        let printed = b"#< CLIXML\r\n<Objs Version=\"1.1.0.1\" \
            xmlns=\"http://schemas.microsoft.com/powershell/2004/04\">\
            <Obj S=\"progress\" RefId=\"0\"><S>x</S></Obj>\
            <S S=\"Error\">C:\\x is a folder_x000D__x000A_</S>\
            <S S=\"Error\">At line:3 char:1_x000D__x000A_</S></Objs>";
        assert_eq!(plain(printed), "C:\\x is a folder");
        assert_eq!(plain(b" no objects\r\n"), "no objects");
    }
}
