//! The calibration cache of ONNX Runtime's quantizer (`quantize_static(.., calibration_cache_path=..)`, 1.32).

use qcc_passes::calibrate::Range;
use serde_json::{Value, json};

use super::NamedRanges;

/// True if a file is of this kind.
pub(super) fn is(json: &Value) -> bool {
    json["CLS"] == "TensorsData"
}

pub(super) fn read(json: &Value) -> Result<NamedRanges, String> {
    let tensors = json["data"].as_object().ok_or("it has no tensors")?;
    let range = |(name, tensor): (&String, &Value)| {
        let end = |key: &str| number(&tensor[key]).ok_or(format!("the {key} number of {name} is missing"));
        Ok((name.clone(), Range { lo: end("lowest")?, hi: end("highest")? }))
    };
    tensors.iter().map(range).collect()
}

/// A number, or an array with one number.
fn number(value: &Value) -> Option<f32> {
    let value = value.get("data").unwrap_or(value);
    let one = match value.as_array().map(Vec::as_slice) {
        Some([one]) => one,
        Some(_) => return None,
        None => value,
    };
    Some(one.as_f64()? as f32)
}

pub(super) fn write(ranges: &NamedRanges) -> std::io::Result<Vec<u8>> {
    let number = |x: f32| json!({"data": [x], "dtype": "float32", "CLS": "numpy.array"});
    let tensor = |r: &Range| json!({"lowest": number(r.lo), "highest": number(r.hi), "CLS": "TensorData"});
    let data: serde_json::Map<String, Value> = ranges.iter().map(|(name, r)| (name.clone(), tensor(r))).collect();
    let method = json!({"CLS": "CalibrationMethod", "value": "CalibrationMethod.MinMax"});
    let file = json!({"CLS": "TensorsData", "data": data, "calibration_method": method, "smooth_quant": false});
    Ok(serde_json::to_vec(&file)?)
}
