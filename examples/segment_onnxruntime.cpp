// Segment one infrared image with an exported file on ONNX Runtime, from its metadata alone.
//
//   g++ -std=c++17 -O2 segment_onnxruntime.cpp -I$ORT/include -L$ORT/lib -lonnxruntime -Wl,-rpath,$ORT/lib -o segment
//   ./segment infrared.onnx image.pgm labels.pgm
//
// ORT: a release of ONNX Runtime, unpacked (github.com/microsoft/onnxruntime/releases). The image is a binary PGM
// of 8 bits (`convert image.png image.pgm`), so that no library is needed to read it; labels are class ids.
#include <onnxruntime_cxx_api.h>

#include <cstdint>
#include <fstream>
#include <iostream>
#include <string>
#include <vector>

int main(int count, char** arguments) {
    if (count != 4) {
        std::cerr << "usage: segment infrared.onnx image.pgm labels.pgm\n";
        return 2;
    }
    std::ifstream file(arguments[2], std::ios::binary);
    std::string magic;
    int64_t width = 0, height = 0;
    int highest = 0;
    file >> magic >> width >> height >> highest;
    file.get();
    if (magic != "P5" || highest != 255) {
        std::cerr << arguments[2] << " is no binary PGM of 8 bits\n";
        return 2;
    }
    std::vector<uint8_t> levels(width * height);
    file.read(reinterpret_cast<char*>(levels.data()), static_cast<std::streamsize>(levels.size()));

    Ort::Env environment(ORT_LOGGING_LEVEL_WARNING, "segment");
    Ort::Session session(environment, arguments[1], Ort::SessionOptions());
    Ort::AllocatorWithDefaultOptions allocator;
    auto names = session.GetModelMetadata().LookupCustomMetadataMapAllocated("class_names", allocator);
    std::cout << "classes:\n" << (names ? names.get() : "(none)") << "\n";

    // Stored levels go in as they are: scaling, padding and cropping are in the graph.
    const std::vector<int64_t> shape{1, height, width};
    auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
    auto image = Ort::Value::CreateTensor<uint8_t>(memory, levels.data(), levels.size(), shape.data(), shape.size());
    const char* inputs[] = {"infrared"};
    const char* outputs[] = {"labels", "confidence"};
    auto made = session.Run(Ort::RunOptions(), inputs, &image, 1, outputs, 2);

    const auto* labels = made[0].GetTensorData<uint8_t>();
    std::ofstream result(arguments[3], std::ios::binary);
    result << "P5\n" << width << " " << height << "\n255\n";
    result.write(reinterpret_cast<const char*>(labels), static_cast<std::streamsize>(levels.size()));
    std::cout << "written: " << arguments[3] << "\n";
    return 0;
}
