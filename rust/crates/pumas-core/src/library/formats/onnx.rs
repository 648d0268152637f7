//! ONNX models, known by the shape of their protobuf message.
//!
//! Only the fields of the outermost message are walked (`ModelProto` of
//! <https://github.com/onnx/onnx/blob/main/onnx/onnx.proto>); the graph is passed over. Protobuf has no magic number, so a
//! file counts as ONNX when it begins with a plausible `ir_version` and every field up to the end of the file is one that
//! a model has, with its proper wire type.

use super::reader::{BoundedReader, Budget, OpenedFile};
use crate::error::{Error, Result};

const VARINT: u128 = 0;
const LENGTH: u128 = 2;

/// Field number, name and wire type.
const FIELDS: &[(u128, &str, u128)] = &[
    (1, "ir_version", VARINT),
    (2, PRODUCER, LENGTH),
    (3, "producer_version", LENGTH),
    (4, "domain", LENGTH),
    (5, "model_version", VARINT),
    (6, "doc_string", LENGTH),
    (7, GRAPH, LENGTH),
    (8, OPSETS, LENGTH),
    (14, "metadata_props", LENGTH),
    (20, "training_info", LENGTH),
    (25, "functions", LENGTH),
    (26, "configuration", LENGTH),
];
const PRODUCER: &str = "producer_name";
const GRAPH: &str = "graph";
const OPSETS: &str = "opset_import";
/// 13 in 2025.
const MAX_IR_VERSION: u128 = 100;
const MAX_TEXT_BYTES: u64 = 4 * 1024;
const MAX_READ_BYTES: u64 = 32 * 1024 * 1024;
const MAX_FIELDS: u64 = 20_000;

/// What the outer fields say.
#[derive(Debug, Default)]
pub(super) struct OnnxHeader {
    pub producer: String,
}

enum Walk {
    NotOnnx,
    Failed(Error),
}

impl From<Error> for Walk {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// The outer fields, or `None` when this is not ONNX.
///
/// # Errors
/// [`Error::MalformedModelFile`] when it is, but ends too early.
pub(super) fn read_onnx(file: &OpenedFile) -> Result<Option<OnnxHeader>> {
    let budget = Budget {
        bytes: MAX_READ_BYTES,
        steps: MAX_FIELDS,
    };
    match walk(&mut BoundedReader::new(file, budget)) {
        Ok(header) => Ok(Some(header)),
        Err(Walk::NotOnnx) => Ok(None),
        Err(Walk::Failed(error)) => Err(error),
    }
}

fn walk(reader: &mut BoundedReader<'_>) -> std::result::Result<OnnxHeader, Walk> {
    if reader.remaining() < 4 || reader.take(1)? != b"\x08" {
        return Err(Walk::NotOnnx);
    }
    if !(1..=MAX_IR_VERSION).contains(&varint(reader)?) {
        return Err(Walk::NotOnnx);
    }
    let mut header = OnnxHeader::default();
    let (mut recognised, mut graph) = (false, false);
    while reader.remaining() > 0 {
        reader.spend(1)?;
        let name = field(reader, &mut header, recognised)?;
        recognised |= name == PRODUCER || name == OPSETS;
        graph |= name == GRAPH;
    }
    if graph { Ok(header) } else { Err(Walk::NotOnnx) }
}

fn field(
    reader: &mut BoundedReader<'_>,
    header: &mut OnnxHeader,
    recognised: bool,
) -> std::result::Result<&'static str, Walk> {
    let tag = varint(reader)?;
    let Some((_, name, wire)) = FIELDS
        .iter()
        .find(|(number, _, wire)| *number == tag >> 3 && *wire == tag & 7)
    else {
        return Err(Walk::NotOnnx);
    };
    let value = varint(reader)?;
    if *wire == VARINT {
        return Ok(name);
    }
    let Some(length) = u64::try_from(value)
        .ok()
        .filter(|length| *length <= reader.remaining())
    else {
        if recognised {
            let missing = value - u128::from(reader.remaining());
            return Err(reader
                .fail(format!("is cut short: {missing} bytes of its {name} are missing"))
                .into());
        }
        return Err(Walk::NotOnnx);
    };
    if *name == PRODUCER {
        let kept = length.min(MAX_TEXT_BYTES);
        header.producer = String::from_utf8_lossy(reader.take(kept)?).into_owned();
        reader.skip(length - kept)?;
    } else {
        reader.skip(length)?;
    }
    Ok(name)
}

fn varint(reader: &mut BoundedReader<'_>) -> std::result::Result<u128, Walk> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        if reader.remaining() == 0 {
            return Err(Walk::NotOnnx);
        }
        let [byte] = reader.array()?;
        value |= u128::from(byte & 0x7F) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(Walk::NotOnnx)
}
