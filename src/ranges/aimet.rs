//! The encodings of AIMET: versions 2.0 and 2.1 (fields of ONNX's QuantizeLinear), 1.0, and 0.6 and older.

use qcc_passes::calibrate::Range;
use serde_json::{Value, json};

use super::NamedRanges;

/// The scale of values that are 0.
const FINEST: f64 = 1e-9;

/// True if a file is of this kind.
pub(super) fn is(json: &Value) -> bool {
    json["encodings"].is_array() || json.get("activation_encodings").is_some()
}

pub(super) fn read(json: &Value) -> Result<NamedRanges, String> {
    if let Some(encodings) = json["encodings"].as_array() {
        return listed(encodings, &quantize_linear);
    }
    match &json["activation_encodings"] {
        Value::Array(encodings) => listed(encodings, &first_version),
        Value::Object(encodings) => {
            let range = |(name, encoding): (&String, &Value)| {
                let end = |key: &str| encoding[0][key].as_f64().map(|x| x as f32).ok_or_else(|| unknown(name));
                Ok((name.clone(), Range { lo: end("min")?, hi: end("max")? }))
            };
            let integers = |(_, encoding): &(&String, &Value)| encoding[0]["dtype"] != "float";
            encodings.iter().filter(integers).map(range).collect()
        }
        _ => Err("its encodings are neither a list nor named".into()),
    }
}

fn unknown(name: &str) -> String {
    format!("the encoding of {name} is not one that is known")
}

/// The range of each encoding of a list. `range` returns `None` for scales of channels or blocks, which weights have, and
/// for floating-point types.
fn listed(encodings: &[Value], range: &dyn Fn(&Value) -> Result<Option<Range>, ()>) -> Result<NamedRanges, String> {
    let mut ranges = NamedRanges::new();
    for encoding in encodings {
        let name = encoding["name"].as_str().ok_or("an encoding has no name")?;
        if let Some(range) = range(encoding).map_err(|()| unknown(name))? {
            ranges.insert(name.to_owned(), range);
        }
    }
    Ok(ranges)
}

/// An encoding of version 2: `x = (q - y_zero_point) * y_scale`.
fn quantize_linear(encoding: &Value) -> Result<Option<Range>, ()> {
    let dtype = encoding["output_dtype"].as_str().ok_or(())?;
    if dtype.starts_with("float")
        || dtype.starts_with("bfloat")
        || encoding["y_scale"].is_array()
        || encoding["y_scale"].is_object()
    {
        return Ok(None);
    }
    let (signed, bits) = match (dtype.strip_prefix("uint"), dtype.strip_prefix("int")) {
        (Some(bits), _) => (false, bits),
        (None, Some(bits)) => (true, bits),
        (None, None) => return Err(()),
    };
    let bits: i32 = bits.parse().ok().filter(|bits| (2..=32).contains(bits)).ok_or(())?;
    let scale = encoding["y_scale"].as_f64().ok_or(())?;
    let zero = match &encoding["y_zero_point"] {
        Value::Null => 0.0,
        zero => zero.as_f64().ok_or(())?,
    };
    let least = if signed { -2f64.powi(bits - 1) } else { 0.0 };
    let most = least + 2f64.powi(bits) - 1.0;
    Ok(Some(Range { lo: ((least - zero) * scale) as f32, hi: ((most - zero) * scale) as f32 }))
}

/// An encoding of version 1: `x = (q + offset) * scale` with q from 0.
fn first_version(encoding: &Value) -> Result<Option<Range>, ()> {
    if encoding["dtype"] == "FLOAT" || !matches!(encoding["enc_type"].as_str(), Some("PER_TENSOR") | None) {
        return Ok(None);
    }
    let number = |key: &str| encoding[key][0].as_f64().ok_or(());
    let bits = encoding["bw"].as_i64().filter(|bits| (2..=32).contains(bits)).ok_or(())? as i32;
    let (scale, offset) = (number("scale")?, number("offset")?);
    let most = 2f64.powi(bits) - 1.0;
    Ok(Some(Range { lo: (offset * scale) as f32, hi: ((offset + most) * scale) as f32 }))
}

/// Version 2.0.0, with unsigned 8-bit activations.
pub(super) fn write(ranges: &NamedRanges) -> std::io::Result<Vec<u8>> {
    let encoding = |(name, r): (&String, &Range)| {
        let span = f64::from(r.hi) - f64::from(r.lo);
        let scale = (span / 255.0).max(FINEST);
        let zero = (-f64::from(r.lo) / scale).round().clamp(0.0, 255.0) as u8;
        json!({"name": name, "output_dtype": "uint8", "y_scale": scale, "y_zero_point": zero})
    };
    let encodings: Vec<Value> = ranges.iter().map(encoding).collect();
    Ok(serde_json::to_vec_pretty(&json!({"version": "2.0.0", "encodings": encodings}))?)
}
