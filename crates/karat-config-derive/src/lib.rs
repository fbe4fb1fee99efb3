//! Derives a component's schema and decoder from its configuration struct.
//!
//! Attributes of a field, in `#[option(…)]`:
//!
//! | word | meaning |
//! |---|---|
//! | `default = LITERAL` | text, number, bool or `[…]` taken when the option is absent |
//! | `required` | a block without it is an error |
//! | `rename = "x"`, `alias = "x"` | the name in templates; a further name |
//! | `late`, `input`, `output`, `volatile`, `secret` | the option's kind |
//! | `deprecated = "why"` | using it gives a warning |
//! | `block`, `blocks` | a nested block (`Option<T>`), nested blocks (`Vec<T>`) |
//! | `flatten` | the options of another configuration struct |

use proc_macro::TokenStream;
use proc_macro2::TokenStream as Tokens;
use quote::quote;
use syn::{Attribute, Data, DeriveInput, Expr, ExprLit, Field, Fields, Lit, Meta};

/// Derives `karat_config::Config` for a struct with named fields.
#[proc_macro_derive(Config, attributes(option))]
pub fn derive_config(input: TokenStream) -> TokenStream {
    let input = syn::parse_macro_input!(input as DeriveInput);
    expand(&input).unwrap_or_else(|e| e.to_compile_error()).into()
}

#[derive(Default)]
struct Attrs {
    default: Option<String>,
    required: bool,
    rename: Option<String>,
    aliases: Vec<String>,
    kind: Option<&'static str>,
    deprecated: Option<String>,
    shape: Shape,
}

#[derive(Default, PartialEq)]
enum Shape {
    #[default]
    Attribute,
    Block,
    Blocks,
    Flatten,
}

fn expand(input: &DeriveInput) -> syn::Result<Tokens> {
    let Data::Struct(data) = &input.data else {
        return Err(syn::Error::new_spanned(input, "Config is derived for structs only"));
    };
    let Fields::Named(fields) = &data.fields else {
        return Err(syn::Error::new_spanned(input, "Config needs named fields"));
    };
    let (mut schema, mut decode, mut build) = (Vec::new(), Vec::new(), Vec::new());
    for field in &fields.named {
        let ident = field.ident.as_ref().expect("named fields have names");
        let attrs = Attrs::of(field)?;
        schema.push(attrs.schema(field));
        let value = attrs.decode(field);
        decode.push(quote! { let #ident = #value; });
        build.push(quote! { #ident: #ident? });
    }
    let (name, doc) = (&input.ident, doc_text(&input.attrs));
    let (impl_generics, type_generics, where_clause) = input.generics.split_for_impl();
    Ok(quote! {
        impl #impl_generics ::karat_config::Config for #name #type_generics #where_clause {
            fn schema() -> ::karat_config::Schema {
                let mut schema =
                    ::karat_config::Schema {
                        doc: #doc.to_owned(),
                        ..::core::default::Default::default()
                    };
                #(#schema)*
                schema
            }

            fn decode(decoder: &mut ::karat_config::Decoder<'_>) -> ::std::option::Option<Self> {
                #(#decode)*
                ::std::option::Option::Some(Self { #(#build),* })
            }
        }
    })
}

impl Attrs {
    fn of(field: &Field) -> syn::Result<Self> {
        let mut attrs = Self::default();
        for attribute in field.attrs.iter().filter(|a| a.path().is_ident("option")) {
            attribute.parse_nested_meta(|meta| {
                let word = meta.path.get_ident().map(ToString::to_string).unwrap_or_default();
                let text = || meta.value()?.parse::<syn::LitStr>().map(|l| l.value());
                match word.as_str() {
                    "default" => attrs.default = Some(json(&meta.value()?.parse::<Expr>()?)?),
                    "required" => attrs.required = true,
                    "rename" => attrs.rename = Some(text()?),
                    "alias" => attrs.aliases.push(text()?),
                    "deprecated" => attrs.deprecated = Some(text()?),
                    "late" => attrs.kind = Some("Late"),
                    "input" => attrs.kind = Some("Input"),
                    "output" => attrs.kind = Some("Output"),
                    "volatile" => attrs.kind = Some("Volatile"),
                    "secret" => attrs.kind = Some("Secret"),
                    "block" => attrs.shape = Shape::Block,
                    "blocks" => attrs.shape = Shape::Blocks,
                    "flatten" => attrs.shape = Shape::Flatten,
                    _ => return Err(meta.error("not a word that #[option(…)] knows")),
                }
                Ok(())
            })?;
        }
        Ok(attrs)
    }

    fn name(&self, field: &Field) -> String {
        let ident = field.ident.as_ref().expect("named fields have names").to_string();
        self.rename.clone().unwrap_or_else(|| ident.trim_start_matches("r#").to_owned())
    }

    fn schema(&self, field: &Field) -> Tokens {
        let (ty, name, doc) = (&field.ty, self.name(field), doc_text(&field.attrs));
        if self.shape == Shape::Flatten {
            return quote! { schema.extend(<#ty as ::karat_config::Config>::schema()); };
        }
        let inner = inner_type(ty);
        let shape = match self.shape {
            Shape::Block => quote! { Block(<#inner as ::karat_config::Config>::schema()) },
            Shape::Blocks => quote! { Blocks(<#inner as ::karat_config::Config>::schema()) },
            _ => quote! { Attribute(<#ty as ::karat_config::OptionValue>::ty()) },
        };
        let kind = quote::format_ident!("{}", self.kind.unwrap_or("Plain"));
        let (aliases, required) = (&self.aliases, self.required);
        let (default, deprecated) = (option(&self.default), option(&self.deprecated));
        quote! {
            schema.options.push(::karat_config::OptionSchema {
                name: #name.to_owned(),
                aliases: ::std::vec![#(#aliases.to_owned()),*],
                doc: #doc.to_owned(),
                ty: ::karat_config::OptionType::#shape,
                required: #required,
                default: #default,
                kind: ::karat_config::OptionKind::#kind,
                deprecated: #deprecated,
            });
        }
    }

    fn decode(&self, field: &Field) -> Tokens {
        let (ty, name) = (&field.ty, self.name(field));
        let (aliases, required) = (&self.aliases, self.required);
        let default = match &self.default {
            Some(text) => quote! { ::std::option::Option::Some(#text) },
            None => quote! { ::std::option::Option::None },
        };
        let inner = inner_type(ty);
        match self.shape {
            Shape::Flatten => quote! { <#ty as ::karat_config::Config>::decode(decoder) },
            Shape::Block => quote! { decoder.block::<#inner>(#name, #required) },
            Shape::Blocks => quote! { decoder.blocks::<#inner>(#name, #required) },
            Shape::Attribute => quote! {
                decoder.attribute::<#ty>(#name, &[#(#aliases),*], #required, #default)
            },
        }
    }
}

fn option(text: &Option<String>) -> Tokens {
    match text {
        Some(text) => quote! { ::std::option::Option::Some(#text.to_owned()) },
        None => quote! { ::std::option::Option::None },
    }
}

/// `T` of `Option<T>` or `Vec<T>`; any other type is itself.
fn inner_type(ty: &syn::Type) -> Tokens {
    if let syn::Type::Path(path) = ty
        && let Some(last) = path.path.segments.last()
        && (last.ident == "Option" || last.ident == "Vec")
        && let syn::PathArguments::AngleBracketed(arguments) = &last.arguments
        && let Some(inner) = arguments.args.first()
    {
        return quote! { #inner };
    }
    quote! { #ty }
}

/// A literal as JSON, which is how defaults are written down.
fn json(expr: &Expr) -> syn::Result<String> {
    match expr {
        Expr::Lit(ExprLit { lit, .. }) => match lit {
            Lit::Str(text) => Ok(quoted(&text.value())),
            Lit::Int(number) => Ok(number.base10_digits().to_owned()),
            Lit::Float(number) => Ok(number.base10_digits().to_owned()),
            Lit::Bool(word) => Ok(word.value.to_string()),
            other => Err(syn::Error::new_spanned(other, "a default is text, number or bool")),
        },
        Expr::Array(array) => {
            let items = array.elems.iter().map(json).collect::<syn::Result<Vec<_>>>()?;
            Ok(format!("[{}]", items.join(",")))
        }
        other => Err(syn::Error::new_spanned(other, "a default is a literal or a list of them")),
    }
}

fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn doc_text(attributes: &[Attribute]) -> String {
    let lines: Vec<String> = attributes
        .iter()
        .filter_map(|attribute| match &attribute.meta {
            Meta::NameValue(pair) if pair.path.is_ident("doc") => match &pair.value {
                Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text.value()),
                _ => None,
            },
            _ => None,
        })
        .map(|line| line.strip_prefix(' ').unwrap_or(&line).to_owned())
        .collect();
    lines.join("\n").trim().to_owned()
}
