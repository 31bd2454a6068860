//! The custom operator of detectors.

use serde::{Deserialize, Serialize};

/// The name of the operator, of version 1.
pub const DETECTION_POST_PROCESS: &str = "TFLite_Detection_PostProcess";

/// Its options, a map of names (`detection_postprocess.cc` of TensorFlow Lite).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DetectionOptions {
    /// The maximum number of boxes.
    pub max_detections: i32,
    /// The number of rows for each box.
    pub max_classes_per_detection: i32,
    /// The maximum number of boxes of a class, where classes are regular.
    #[serde(default = "most_of_class")]
    pub detections_per_class: i32,
    /// Suppression for each class.
    #[serde(default)]
    pub use_regular_nms: bool,
    /// The lowest score.
    pub nms_score_threshold: f32,
    /// The intersection over union above which a box overlaps another.
    pub nms_iou_threshold: f32,
    /// The number of classes, without the background.
    pub num_classes: i32,
    /// The divisor of the offsets along y.
    pub y_scale: f32,
    /// The divisor of the offsets along x.
    pub x_scale: f32,
    /// The divisor of the heights.
    pub h_scale: f32,
    /// The divisor of the widths.
    pub w_scale: f32,
}

fn most_of_class() -> i32 {
    100
}

impl DetectionOptions {
    /// The options as they are in a file.
    ///
    /// # Errors
    /// Where they are no such map.
    pub fn read(options: &[u8]) -> Result<Self, flexbuffers::DeserializationError> {
        flexbuffers::from_slice(options)
    }

    /// The bytes of the options in a file.
    ///
    /// # Errors
    /// None of these fields has one.
    pub fn write(&self) -> Result<Vec<u8>, flexbuffers::SerializationError> {
        flexbuffers::to_vec(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_are_left_out_have_defaults() {
        let options = DetectionOptions {
            max_detections: 10,
            max_classes_per_detection: 1,
            detections_per_class: 100,
            use_regular_nms: false,
            nms_score_threshold: 0.0,
            nms_iou_threshold: 0.6,
            num_classes: 90,
            y_scale: 10.0,
            x_scale: 10.0,
            h_scale: 5.0,
            w_scale: 5.0,
        };
        assert_eq!(DetectionOptions::read(&options.write().unwrap()).unwrap(), options);
        let mut map = flexbuffers::Builder::default();
        let mut fields = map.start_map();
        for (name, value) in [("max_detections", 10), ("max_classes_per_detection", 1), ("num_classes", 90)] {
            fields.push(name, value);
        }
        let numbers = [("nms_score_threshold", 0.0f32), ("nms_iou_threshold", 0.6), ("h_scale", 5.0), ("w_scale", 5.0)];
        for (name, value) in numbers {
            fields.push(name, value);
        }
        // Whole numbers may be stored as integers.
        fields.push("y_scale", 10);
        fields.push("x_scale", 10);
        fields.push("_output_quantized", true);
        fields.end_map();
        assert_eq!(DetectionOptions::read(map.view()).unwrap(), options);
    }
}
