//! The folders that a ComfyUI is told to look into besides its own: `extra_model_paths.yaml`.
//!
//! <https://github.com/comfyanonymous/ComfyUI/blob/master/extra_model_paths.yaml.example>: sections with an optional
//! `base_path`, relative to the file, and for each kind of model one folder or several, one per line. Aliases share what
//! they stand for, so a file costs no more memory than it has text.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use indexmap::IndexMap;
use saphyr_parser::{Event, Parser, ScalarStyle, StrInput};

use crate::adoption::look::small_file;
use crate::storage::paths::expanded;

const MAX_SECTIONS: usize = 50;
const MAX_KEYS: usize = 100;
const MAX_DEPTH: usize = 50;
const NO_FOLDERS: [&str; 3] = ["base_path", "is_default", "custom_nodes"];

type Fields = IndexMap<String, Node>;

/// What of a document matters here.
#[derive(Clone)]
enum Node {
    Text(String),
    Mapping(Rc<Fields>),
    /// A list, or a scalar that is no text.
    Other,
}

/// The folders that `file` names; none when it cannot be read.
#[must_use]
pub fn extra_model_paths(file: &Path) -> Vec<PathBuf> {
    let data = file.to_str().and_then(|path| small_file(path).ok());
    let text = data.and_then(|data| String::from_utf8(data).ok());
    let Some(Node::Mapping(sections)) = text.and_then(|text| document(&text)) else {
        return Vec::new();
    };
    let beside = file.parent().unwrap_or(Path::new("/"));
    let mut found = Vec::new();
    for section in sections.values().take(MAX_SECTIONS) {
        let Node::Mapping(fields) = section else { continue };
        let top = match fields.get("base_path") {
            Some(Node::Text(base)) => beside.join(expanded(base).unwrap_or_else(|| PathBuf::from(base))),
            _ => beside.to_path_buf(),
        };
        for (key, value) in fields.iter().take(MAX_KEYS) {
            if let Node::Text(text) = value
                && !NO_FOLDERS.contains(&key.as_str())
            {
                let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
                found.extend(lines.map(|line| top.join(line)));
            }
        }
    }
    found
}

/// The one document of a text; None when it is not well-formed.
fn document(text: &str) -> Option<Node> {
    let mut reader = Reader {
        parser: Parser::new_from_str(text.strip_prefix('\u{feff}').unwrap_or(text)),
        anchors: HashMap::new(),
    };
    loop {
        match reader.next()? {
            Event::StreamStart | Event::DocumentStart(_) => {}
            event => {
                let node = reader.node(event, 0)?;
                let ends = matches!(reader.next()?, Event::DocumentEnd)
                    && matches!(reader.next()?, Event::StreamEnd);
                return ends.then_some(node);
            }
        }
    }
}

struct Reader<'a> {
    parser: Parser<'a, StrInput<'a>>,
    anchors: HashMap<usize, Node>,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Option<Event<'a>> {
        self.parser.next()?.ok().map(|(event, _)| event)
    }

    /// The node that begins with `event`.
    fn node(&mut self, event: Event<'a>, depth: usize) -> Option<Node> {
        if depth > MAX_DEPTH {
            return None;
        }
        let (node, anchor) = match event {
            Event::Alias(anchor) => return Some(self.anchors.get(&anchor).cloned().unwrap_or(Node::Other)),
            Event::Scalar(text, style, anchor, tag) => {
                let is_text = tag.is_none() && (style != ScalarStyle::Plain || is_word(&text));
                let node = if is_text {
                    Node::Text(text.into_owned())
                } else {
                    Node::Other
                };
                (node, anchor)
            }
            Event::SequenceStart(anchor, _) => {
                loop {
                    match self.next()? {
                        Event::SequenceEnd => break,
                        event => self.node(event, depth + 1)?,
                    };
                }
                (Node::Other, anchor)
            }
            Event::MappingStart(anchor, _) => (self.mapping(depth)?, anchor),
            _ => return None,
        };
        self.keep(anchor, &node);
        Some(node)
    }

    /// What has no anchor has number 0.
    fn keep(&mut self, anchor: usize, node: &Node) {
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
    }

    fn mapping(&mut self, depth: usize) -> Option<Node> {
        let mut fields = Fields::new();
        loop {
            let key = match self.next()? {
                Event::MappingEnd => return Some(Node::Mapping(Rc::new(fields))),
                Event::Scalar(text, _, anchor, _) => {
                    self.keep(anchor, &Node::Text(text.to_string()));
                    text.into_owned()
                }
                Event::Alias(anchor) => match self.anchors.get(&anchor)? {
                    Node::Text(text) => text.clone(),
                    _ => return None,
                },
                _ => return None,
            };
            let event = self.next()?;
            let value = self.node(event, depth + 1)?;
            match value {
                // https://yaml.org/type/merge.html: what the mapping says itself counts more.
                Node::Mapping(merged) if key == "<<" => {
                    for (key, value) in merged.iter() {
                        fields.entry(key.clone()).or_insert_with(|| value.clone());
                    }
                }
                value => {
                    fields.insert(key, value);
                }
            }
        }
    }
}

/// False for what YAML reads as nothing, a truth value or a number.
fn is_word(plain: &str) -> bool {
    let known = ["", "~", "null", "true", "false", "yes", "no", "on", "off"];
    !known.contains(&plain.to_lowercase().as_str()) && plain.parse::<f64>().is_err()
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use proptest::prelude::*;

    use super::*;

    fn paths(text: &str) -> Vec<String> {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("extra_model_paths.yaml");
        std::fs::write(&file, text).unwrap();
        let top = place.path().to_str().unwrap();
        let found = extra_model_paths(&file);
        found
            .iter()
            .map(|path| path.to_str().unwrap().replace(top, "@"))
            .collect()
    }

    #[test]
    fn sections_name_folders() {
        let text = "
# a comment
a111:
    base_path: /opt/webui/
    is_default: true
    checkpoints: models/Stable-diffusion
    loras: |
         models/Lora
         models/LyCORIS
    custom_nodes: nodes
    vae: 3
    clip: ~
    list: [one, two]
other:
    base_path: ../drive
    vae: \"/abs/vae\"
    clip: 'it''s'
plain:
    loras: x
nothing:
";
        assert_eq!(
            paths(text),
            [
                "/opt/webui/models/Stable-diffusion",
                "/opt/webui/models/Lora",
                "/opt/webui/models/LyCORIS",
                "/abs/vae",
                "@/../drive/it's",
                "@/x",
            ]
        );
    }

    #[test]
    fn aliases_and_merged_mappings_stand_for_what_they_name() {
        let text = "
base: &base
  base_path: &path /drive
  loras: l
again:
  <<: *base
  vae: *path
  loras: own
";
        assert_eq!(paths(text), ["/drive/l", "/drive/own", "/drive"]);
    }

    #[test]
    fn what_is_not_well_formed_names_nothing() {
        for text in [
            "",
            "a: {",
            "a",
            "- a",
            "a: b: c",
            "a: {loras: x}\n---\nb: {loras: y}",
            "? {a: b}\n: c",
            "a: *none",
            &format!("a: {}", "[".repeat(2000)),
            &format!("a: {}1{}", "{x: ".repeat(500), "}".repeat(500)),
        ] {
            assert!(paths(text).is_empty(), "{text:.40}");
        }
    }

    #[test]
    fn aliases_of_aliases_cost_no_memory() {
        let mut text = String::from("a0: &a0 {loras: x}\n");
        for n in 1..1000 {
            let before = n - 1;
            let _ = writeln!(
                text,
                "a{n}: &a{n} {{x: *a{before}, y: *a{before}, z: *a{before}}}"
            );
        }
        assert_eq!(paths(&text), ["@/x"]);
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_not(text in "([a-z*&<:{}\\[\\],|>'\"#!% \n-]|\\PC){0,60}") {
            let _ = document(&text);
        }
    }
}
