// Segment one infrared image with an exported file (.onnx or .xml) on OpenVINO, from its metadata alone.
//
//   pip install openvino
//   OV=$(python -c 'import openvino, os; print(os.path.dirname(openvino.__file__))')
//   g++ -std=c++17 -O2 examples/segment_openvino.cpp -I$OV/include $OV/libs/libopenvino.so.* -Wl,-rpath,$OV/libs -o segment
//   ./segment infrared.onnx image.pgm labels.pgm
//
// The Python package brings the headers and the library. The image is a binary PGM of 8 bits
// (`convert image.png image.pgm`), so that no library is needed to read it; labels are class ids.
#include <openvino/openvino.hpp>

#include <cstdint>
#include <fstream>
#include <iostream>
#include <limits>
#include <string>

int main(int count, char** arguments) {
    if (count != 4) {
        std::cerr << "usage: segment infrared.onnx image.pgm labels.pgm\n";
        return 2;
    }
    std::ifstream file(arguments[2], std::ios::binary);
    std::string magic;
    size_t width = 0, height = 0, highest = 0;
    file >> magic;
    while ((file >> std::ws).peek() == '#') file.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
    file >> width >> height >> highest;
    file.get();
    if (!file || magic != "P5" || highest != 255) {
        std::cerr << arguments[2] << " is no binary PGM of 8 bits\n";
        return 2;
    }
    ov::Tensor image(ov::element::u8, {1, height, width});
    const auto bytes = static_cast<std::streamsize>(image.get_byte_size());
    file.read(reinterpret_cast<char*>(image.data()), bytes);
    if (file.gcount() != bytes) {
        std::cerr << arguments[2] << " ends too early\n";
        return 2;
    }

    try {
        ov::Core core;
        const auto model = core.read_model(arguments[1]);
        std::cout << "classes:\n" << model->get_rt_info<std::string>("framework", "class_names") << "\n";
        // OpenVINO takes levels of another type without a word, and computes something else.
        if (model->inputs().size() != 1 || model->input("infrared").get_element_type() != image.get_element_type()) {
            std::cerr << arguments[1] << " does not take infrared of 8 bits alone\n";
            return 2;
        }
        // On some processors OpenVINO would take bfloat16 of its own accord.
        auto request = core.compile_model(model, "CPU", ov::hint::inference_precision(ov::element::f32))
                           .create_infer_request();
        // Stored levels go in as they are: scaling, padding and cropping are in the graph.
        request.set_tensor("infrared", image);
        request.infer();
        const auto labels = request.get_tensor("labels");
        std::ofstream made(arguments[3], std::ios::binary);
        made << "P5\n" << width << " " << height << "\n255\n";
        made.write(static_cast<const char*>(labels.data()), static_cast<std::streamsize>(labels.get_byte_size()));
        if (!made.flush()) {
            std::cerr << "cannot write " << arguments[3] << "\n";
            return 2;
        }
    } catch (const ov::Exception& error) {
        std::cerr << arguments[1] << ": " << error.what() << "\n";
        return 2;
    }
    std::cout << "written: " << arguments[3] << "\n";
    return 0;
}
