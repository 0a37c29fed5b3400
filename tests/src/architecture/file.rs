//! One source file: what it defines, what it takes from elsewhere, and every path that its code names.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Item, UseTree, Visibility};

/// What is read of a file.
pub struct File {
    /// Its path below `src`.
    pub name: String,
    /// How many lines it has.
    pub lines: usize,
    /// Names of its own items.
    pub defines: BTreeSet<String>,
    /// What it takes by `use`.
    pub uses: Vec<Use>,
    /// Paths in its code, by segments.
    pub paths: BTreeSet<Vec<String>>,
}

/// One name of a `use` item.
pub struct Use {
    /// As written, by segments; without the last `*` of a glob.
    pub path: Vec<String>,
    /// The name it has here; `None` for a glob.
    pub name: Option<String>,
    /// Whether it is passed on.
    pub is_public: bool,
}

/// Every file below `src` but `main.rs`, by module path.
pub(super) fn read_all(src: &Path) -> BTreeMap<Vec<String>, File> {
    let mut files = BTreeMap::new();
    let mut open = vec![src.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder of sources") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs")
                && !path.ends_with("main.rs")
            {
                let name =
                    path.strip_prefix(src).expect("below src").to_str().expect("a name in UTF-8").to_owned();
                let text = std::fs::read_to_string(&path).expect("a source file");
                files.insert(module_of(&name), parse(name, &text));
            }
        }
    }
    files
}

/// `training/ema.rs` is `["training", "ema"]`, `training/mod.rs` is `["training"]`, `lib.rs` the root.
fn module_of(name: &str) -> Vec<String> {
    let mut module: Vec<String> = name.trim_end_matches(".rs").split('/').map(ToOwned::to_owned).collect();
    if module.last().is_some_and(|last| last == "mod" || last == "lib") {
        module.pop();
    }
    module
}

/// What `text` has.
pub(super) fn parse(name: String, text: &str) -> File {
    let tree = syn::parse_file(text).unwrap_or_else(|error| panic!("{name}: {error}"));
    let lines = text.lines().count();
    let mut file = File { name, lines, defines: BTreeSet::new(), uses: Vec::new(), paths: BTreeSet::new() };
    for item in &tree.items {
        file.defines.extend(defined(item));
    }
    file.visit_file(&tree);
    file
}

fn defined(item: &Item) -> Option<String> {
    let ident = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Macro(item) => item.ident.as_ref()?,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        // A module within the file.
        Item::Mod(item) if item.content.is_some() => &item.ident,
        _ => return None,
    };
    Some(ident.to_string())
}

impl<'ast> Visit<'ast> for File {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        let is_test = item.attrs.iter().any(|attr| {
            attr.path().is_ident("cfg")
                && attr.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"))
        });
        if !is_test {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let is_public = !matches!(item.vis, Visibility::Inherited);
        self.take(&item.tree, Vec::new(), is_public);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.paths.insert(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        visit::visit_path(self, path);
    }

    /// Attributes name derives and lints, and documentation.
    fn visit_attribute(&mut self, _: &'ast syn::Attribute) {}

    /// The words of a macro's arguments: paths among them are seen, other words are harmless where no import has their name.
    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        self.paths.extend(paths(item.tokens.clone()));
        visit::visit_macro(self, item);
    }
}

impl File {
    fn take(&mut self, tree: &UseTree, mut path: Vec<String>, is_public: bool) {
        match tree {
            UseTree::Path(part) => {
                path.push(part.ident.to_string());
                self.take(&part.tree, path, is_public);
            }
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.take(tree, path.clone(), is_public);
                }
            }
            UseTree::Name(part) if part.ident == "self" => {
                self.uses.push(Use { name: path.last().cloned(), path, is_public });
            }
            UseTree::Name(part) => {
                path.push(part.ident.to_string());
                self.uses.push(Use { name: path.last().cloned(), path, is_public });
            }
            UseTree::Rename(part) => {
                path.push(part.ident.to_string());
                self.uses.push(Use { name: Some(part.rename.to_string()), path, is_public });
            }
            UseTree::Glob(_) => self.uses.push(Use { name: None, path, is_public }),
        }
    }
}

/// Paths among tokens: names joined by `::`.
fn paths(tokens: TokenStream) -> Vec<Vec<String>> {
    let (mut found, mut path, mut colons): (Vec<Vec<String>>, Vec<String>, usize) =
        (Vec::new(), Vec::new(), 0);
    for token in tokens {
        match token {
            TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
            TokenTree::Ident(ident) => {
                if colons != 2 {
                    found.push(std::mem::take(&mut path));
                }
                path.push(ident.to_string());
                colons = 0;
            }
            TokenTree::Group(group) => {
                found.push(std::mem::take(&mut path));
                found.extend(paths(group.stream()));
                colons = 0;
            }
            _ => {
                found.push(std::mem::take(&mut path));
                colons = 0;
            }
        }
    }
    found.push(path);
    found.retain(|path| !path.is_empty());
    found
}
