//! The protocol.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use karat_hcl::diag::{Diagnostics, SourceMap};
use tokio::io::{AsyncRead, AsyncWrite};
use tower_lsp_server::jsonrpc::{Error, Result};
use tower_lsp_server::ls_types::{
    CompletionOptions, CompletionParams, CompletionResponse, DidChangeTextDocumentParams,
    DidCloseTextDocumentParams, DidOpenTextDocumentParams, DidSaveTextDocumentParams,
    DocumentFormattingParams, DocumentSymbolParams, DocumentSymbolResponse, GotoDefinitionParams,
    GotoDefinitionResponse, Hover, HoverContents, HoverParams, HoverProviderCapability,
    InitializeParams, InitializeResult, Location, MarkupContent, MarkupKind, OneOf, Position,
    PrepareRenameResponse, ReferenceParams, RenameOptions, RenameParams, ServerCapabilities,
    ServerInfo, TextDocumentPositionParams, TextDocumentSyncCapability, TextDocumentSyncKind,
    TextEdit, Uri, WorkspaceEdit,
};
use tower_lsp_server::{Client, LanguageServer, LspService, Server};

use crate::catalog::Catalog;
use crate::completion::complete;
use crate::definition::definition;
use crate::document::{Document, range_in};
use crate::hover::hover;
use crate::index::Index;
use crate::names::{self, Place};
use crate::problems;
use crate::symbols::symbols;

/// How long nobody has to type before the template is checked.
const PAUSE: Duration = Duration::from_millis(150);
/// A file of more bytes is no template, and is not read.
const LARGEST: u64 = 16 * 1024 * 1024;

/// Checks templates.
pub trait Checker: Send + Sync + 'static {
    /// What is wrong with the template at `path`, a folder or a file. `open` are texts that stand
    /// for those of the files. Sources are named by the paths of their files.
    fn check(&self, path: &Path, open: &BTreeMap<PathBuf, String>) -> (SourceMap, Diagnostics);

    /// What is wrong with a file that only gives values to variables.
    fn check_values(&self, path: &Path, text: &str) -> (SourceMap, Diagnostics) {
        let mut sources = SourceMap::new();
        let id = sources.add(path.to_string_lossy(), text);
        let (_, diags) = karat_hcl::parse(id, text);
        (sources, diags)
    }
}

/// Answers a client until it goes away.
pub async fn serve(
    input: impl AsyncRead + Unpin,
    output: impl AsyncWrite,
    catalog: Catalog,
    checker: Arc<dyn Checker>,
) {
    let (service, socket) = LspService::new(|client| Backend {
        state: Arc::new(State {
            client,
            catalog,
            checker,
            open: Mutex::default(),
            told: Mutex::default(),
            generation: AtomicU64::new(0),
        }),
    });
    Server::new(input, output, socket).serve(service).await;
}

struct Backend {
    state: Arc<State>,
}

struct State {
    client: Client,
    catalog: Catalog,
    checker: Arc<dyn Checker>,
    /// The texts that the client has open.
    open: Mutex<BTreeMap<PathBuf, Arc<Document>>>,
    /// The files that the client was told problems of.
    told: Mutex<BTreeSet<PathBuf>>,
    /// Counts changes: who finds another number than before comes too late.
    generation: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn path_of(uri: &Uri) -> Option<PathBuf> {
    uri.to_file_path().map(|path| path.into_owned())
}

fn ends(path: &Path, endings: &[&str]) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    endings.iter().any(|ending| name.ends_with(ending))
}

const TEMPLATES: [&str; 2] = [".pkr.hcl", ".pkr.json"];
const VALUES: [&str; 1] = [".pkrvars.hcl"];

impl State {
    fn document(&self, uri: &Uri) -> Option<(PathBuf, Arc<Document>)> {
        // Of JSON there is nothing to be told but what is wrong in it.
        let path = path_of(uri).filter(|path| !ends(path, &[".json"]))?;
        let document = lock(&self.open).get(&path).cloned()?;
        Some((path, document))
    }

    /// The documents of the folder that `path` is in whose names end so, those that are open as they
    /// are there.
    fn folder(&self, path: &Path, endings: &[&str]) -> BTreeMap<PathBuf, Arc<Document>> {
        let Some(folder) = path.parent() else { return BTreeMap::new() };
        let mut all: BTreeMap<PathBuf, Arc<Document>> = lock(&self.open)
            .iter()
            .filter(|(path, _)| path.parent() == Some(folder) && ends(path, endings))
            .map(|(path, document)| (path.clone(), Arc::clone(document)))
            .collect();
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let small = entry.metadata().is_ok_and(|m| m.is_file() && m.len() <= LARGEST);
            if small && ends(&path, endings) && !all.contains_key(&path) {
                // What cannot be read declares nothing.
                if let Ok(text) = std::fs::read_to_string(&path) {
                    all.insert(path, Arc::new(Document::new(text)));
                }
            }
        }
        all
    }

    fn index(&self, path: &Path) -> Index {
        let all = self.folder(path, &[".pkr.hcl"]);
        Index::new(all.iter().map(|(path, document)| (path.as_path(), document.as_ref())))
    }

    /// All places that name what is named at `offset` of a file, by document.
    fn places(&self, path: &Path, offset: usize) -> Option<Found> {
        let documents: Vec<(PathBuf, Arc<Document>)> =
            self.folder(path, &[".pkr.hcl", VALUES[0]]).into_iter().collect();
        let mut all: Vec<(usize, Vec<Place>)> = documents
            .iter()
            .enumerate()
            .map(|(i, (path, document))| match ends(path, &VALUES) {
                true => (i, names::places_of_values(document)),
                false => (i, names::places(document)),
            })
            .collect();
        let own = documents.iter().position(|(other, _)| other == path)?;
        let place = names::at(&all[own].1, offset, &all)?;
        let declares = |places: &[Place]| {
            places.iter().any(|other| other.declares && other.named == place.named)
        };
        // Several templates in a folder that do not go together are each by itself.
        if declares(&all[own].1) && all.iter().any(|(i, p)| *i != own && declares(p)) {
            all.retain(|(i, _)| *i == own);
        }
        Some(Found { documents, all, place })
    }

    fn open_texts(&self) -> BTreeMap<PathBuf, String> {
        let open = lock(&self.open);
        open.iter().map(|(path, document)| (path.clone(), document.text.clone())).collect()
    }

    /// What is wrong with the template that a file belongs to: its folder, or the file alone where
    /// the folder holds several templates that do not go together.
    fn problems(&self, path: &Path) -> (SourceMap, Diagnostics) {
        let open = self.open_texts();
        if ends(path, &VALUES) {
            let text = open.get(path).cloned().unwrap_or_default();
            return self.checker.check_values(path, &text);
        }
        let Some(folder) = path.parent() else { return self.checker.check(path, &open) };
        let (sources, diags) = self.checker.check(folder, &open);
        let clash = diags.iter().any(|problem| {
            problem.summary.starts_with("Duplicate ")
                && problem.primary.iter().any(|first| {
                    problem.secondary.iter().any(|second| first.span.source != second.span.source)
                })
        });
        if clash { self.checker.check(path, &open) } else { (sources, diags) }
    }

    /// Tells the client what is wrong, and of which files nothing is any more.
    async fn tell(self: Arc<Self>, path: &Path, generation: u64) {
        let (state, file) = (Arc::clone(&self), path.to_owned());
        let checked = tokio::task::spawn_blocking(move || state.problems(&file)).await;
        let (sources, diags) = match checked {
            Ok(found) => found,
            // It can only have panicked: nobody cancels it. The other files can still be checked.
            Err(_) => return,
        };
        let mut files = problems::by_file(&sources, &diags, path);
        files.entry(path.to_owned()).or_default();
        if self.generation.load(Ordering::SeqCst) != generation {
            return;
        }
        let gone: Vec<PathBuf> = {
            let mut told = lock(&self.told);
            let same = |p: &PathBuf| p.parent() == path.parent() && !files.contains_key(p);
            let gone: Vec<PathBuf> = told.iter().filter(|p| same(p)).cloned().collect();
            gone.iter().for_each(|p| {
                told.remove(p);
            });
            told.extend(files.iter().filter(|(_, all)| !all.is_empty()).map(|(p, _)| p.clone()));
            gone
        };
        for (path, found) in files.into_iter().chain(gone.into_iter().map(|p| (p, Vec::new()))) {
            if let Some(uri) = Uri::from_file_path(&path) {
                self.client.publish_diagnostics(uri, found, None).await;
            }
        }
    }
}

/// Something that is named, and the places of all documents that belong together.
struct Found {
    documents: Vec<(PathBuf, Arc<Document>)>,
    /// The places of each document, by its number.
    all: Vec<(usize, Vec<Place>)>,
    place: Place,
}

impl Found {
    /// The places that name it.
    fn locations(&self, with_declaration: bool) -> Vec<Location> {
        let found = names::of(&self.place.named, &self.all);
        let wanted = found.into_iter().filter(|(_, place)| with_declaration || !place.declares);
        let location = |(i, place): (&usize, &Place)| {
            let (path, document) = &self.documents[*i];
            let uri = Uri::from_file_path(path)?;
            Some(Location { uri, range: document.range(place.span) })
        };
        wanted.filter_map(location).collect()
    }
}

impl Backend {
    fn found(&self, place: &TextDocumentPositionParams) -> Option<(Arc<Document>, Found)> {
        let (path, document) = self.state.document(&place.text_document.uri)?;
        let offset = document.offset(place.position);
        let found = self.state.places(&path, offset)?;
        Some((document, found))
    }

    fn set(&self, uri: &Uri, text: String, pause: Duration) {
        let Some(path) = path_of(uri) else { return };
        lock(&self.state.open).insert(path.clone(), Arc::new(Document::new(text)));
        self.check(path, pause);
    }

    /// Checks a template once nobody has typed for a while.
    fn check(&self, path: PathBuf, pause: Duration) {
        if !ends(&path, &TEMPLATES) && !ends(&path, &VALUES) {
            return;
        }
        let state = Arc::clone(&self.state);
        let generation = state.generation.fetch_add(1, Ordering::SeqCst) + 1;
        tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            if state.generation.load(Ordering::SeqCst) == generation {
                state.tell(&path, generation).await;
            }
        });
    }

    /// What stands at a place: document, byte, and what the template declares.
    fn at(&self, place: &TextDocumentPositionParams) -> Option<(Arc<Document>, usize, Index)> {
        let (path, document) = self.state.document(&place.text_document.uri)?;
        let offset = document.offset(place.position);
        let index = self.state.index(&path);
        Some((document, offset, index))
    }
}

impl LanguageServer for Backend {
    async fn initialize(&self, _: InitializeParams) -> Result<InitializeResult> {
        Ok(InitializeResult {
            capabilities: ServerCapabilities {
                text_document_sync: Some(TextDocumentSyncCapability::Kind(
                    TextDocumentSyncKind::FULL,
                )),
                hover_provider: Some(HoverProviderCapability::Simple(true)),
                completion_provider: Some(CompletionOptions {
                    trigger_characters: Some([".", "\"", "{"].map(str::to_owned).to_vec()),
                    ..CompletionOptions::default()
                }),
                definition_provider: Some(OneOf::Left(true)),
                references_provider: Some(OneOf::Left(true)),
                rename_provider: Some(OneOf::Right(RenameOptions {
                    prepare_provider: Some(true),
                    work_done_progress_options: Default::default(),
                })),
                document_symbol_provider: Some(OneOf::Left(true)),
                document_formatting_provider: Some(OneOf::Left(true)),
                ..ServerCapabilities::default()
            },
            server_info: Some(ServerInfo {
                name: "karat".to_owned(),
                version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            }),
            ..InitializeResult::default()
        })
    }

    async fn shutdown(&self) -> Result<()> {
        Ok(())
    }

    async fn did_open(&self, params: DidOpenTextDocumentParams) {
        let document = params.text_document;
        self.set(&document.uri, document.text, Duration::ZERO);
    }

    async fn did_change(&self, params: DidChangeTextDocumentParams) {
        // Each change is the whole text; the last one counts.
        if let Some(change) = params.content_changes.into_iter().next_back() {
            self.set(&params.text_document.uri, change.text, PAUSE);
        }
    }

    async fn did_save(&self, params: DidSaveTextDocumentParams) {
        if let Some(path) = path_of(&params.text_document.uri) {
            self.check(path, Duration::ZERO);
        }
    }

    async fn did_close(&self, params: DidCloseTextDocumentParams) {
        let uri = params.text_document.uri;
        let Some(path) = path_of(&uri) else { return };
        lock(&self.state.open).remove(&path);
        lock(&self.state.told).remove(&path);
        self.state.client.publish_diagnostics(uri, Vec::new(), None).await;
    }

    async fn hover(&self, params: HoverParams) -> Result<Option<Hover>> {
        let found = self.at(&params.text_document_position_params);
        let text = found.and_then(|(document, offset, index)| {
            hover(&document, offset, &self.state.catalog, &index)
        });
        Ok(text.map(|value| Hover {
            contents: HoverContents::Markup(MarkupContent { kind: MarkupKind::Markdown, value }),
            range: None,
        }))
    }

    async fn completion(&self, params: CompletionParams) -> Result<Option<CompletionResponse>> {
        let found = self.at(&params.text_document_position);
        Ok(found.map(|(document, offset, index)| {
            CompletionResponse::Array(complete(&document, offset, &self.state.catalog, &index))
        }))
    }

    async fn goto_definition(
        &self,
        params: GotoDefinitionParams,
    ) -> Result<Option<GotoDefinitionResponse>> {
        let place = &params.text_document_position_params;
        let Some((document, offset, index)) = self.at(place) else { return Ok(None) };
        let Some(found) = definition(&document, offset, &index) else { return Ok(None) };
        let open = lock(&self.state.open).get(&found.file).cloned();
        let range = match open {
            Some(document) => document.range(found.span),
            None => std::fs::read_to_string(&found.file)
                .map(|text| range_in(&text, found.span))
                .unwrap_or_default(),
        };
        let location = Uri::from_file_path(&found.file).map(|uri| Location { uri, range });
        Ok(location.map(GotoDefinitionResponse::Scalar))
    }

    async fn references(&self, params: ReferenceParams) -> Result<Option<Vec<Location>>> {
        let found = self.found(&params.text_document_position);
        let with_declaration = params.context.include_declaration;
        Ok(found.map(|(_, found)| found.locations(with_declaration)))
    }

    async fn prepare_rename(
        &self,
        params: TextDocumentPositionParams,
    ) -> Result<Option<PrepareRenameResponse>> {
        Ok(self.found(&params).map(|(document, found)| {
            PrepareRenameResponse::RangeWithPlaceholder {
                range: document.range(found.place.span),
                placeholder: found.place.named.name().to_owned(),
            }
        }))
    }

    async fn rename(&self, params: RenameParams) -> Result<Option<WorkspaceEdit>> {
        let Some((_, found)) = self.found(&params.text_document_position) else { return Ok(None) };
        let new_text = params.new_name;
        if let Some(reason) = names::refused(&found.place.named, &new_text, &found.all) {
            return Err(Error::invalid_params(reason));
        }
        let mut changes: HashMap<Uri, Vec<TextEdit>> = HashMap::new();
        for Location { uri, range } in found.locations(true) {
            let edit = TextEdit { range, new_text: new_text.clone() };
            changes.entry(uri).or_default().push(edit);
        }
        Ok(Some(WorkspaceEdit { changes: Some(changes), ..WorkspaceEdit::default() }))
    }

    async fn document_symbol(
        &self,
        params: DocumentSymbolParams,
    ) -> Result<Option<DocumentSymbolResponse>> {
        let found = self.state.document(&params.text_document.uri);
        Ok(found.map(|(_, document)| DocumentSymbolResponse::Nested(symbols(&document))))
    }

    async fn formatting(&self, params: DocumentFormattingParams) -> Result<Option<Vec<TextEdit>>> {
        let Some((_, document)) = self.state.document(&params.text_document.uri) else {
            return Ok(None);
        };
        // A text with errors in it is left as it is.
        if document.diags.has_errors() {
            return Ok(None);
        }
        let new_text = karat_hcl::format(&document.text);
        if new_text == document.text {
            return Ok(Some(Vec::new()));
        }
        let mut range = document.whole();
        range.start = Position::new(0, 0);
        Ok(Some(vec![TextEdit { range, new_text }]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"variable "é😀" {
  default = "x"
}
locals { a = "${upper(var.é)}-${[for x in local.a : x.y][0]}" }
source "a" "b" {
  dynamic "disk" {
    for_each = [1]
    content { size = disk.value }
  }
  text = <<-EOT
    ${data.http.x.body} %{ if true }é%{ endif }
  EOT
}
build {
  sources = ["source.a.b"]
  provisioner "shell" { inline = ["😀${local.
"#;

    /// Every answer to every place of every beginning of a text comes without a panic.
    #[test]
    fn no_place_is_too_much() {
        let catalog = Catalog::default();
        let path = Path::new("/t.pkr.hcl");
        let cuts = TEXT.char_indices().map(|(at, _)| at).chain([TEXT.len()]);
        for cut in cuts {
            let document = Document::new(TEXT[..cut].to_owned());
            let index = Index::new([(path, &document)]);
            // The whole of it at some places, and all of them at the end, where one types.
            let places = (0..=cut).filter(|at| cut == TEXT.len() || cut - at < 4);
            for offset in places.filter(|at| TEXT.is_char_boundary(*at)) {
                hover(&document, offset, &catalog, &index);
                complete(&document, offset, &catalog, &index);
                definition(&document, offset, &index);
            }
            names::places(&document);
            names::places_of_values(&document);
            symbols(&document);
        }
    }
}
