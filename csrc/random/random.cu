#include "random/random_cuda.h"

#include "cuda/launch.h"
#include "random/laws_cuda.h"
#include "random/row_packs_cuda.h"

namespace logitkit::cuda {
namespace {

template <class Law, int pack, class T>
__global__ void __launch_bounds__(pack_threads)
    fill(Rows rows, RowPacks packs, T* out, bool aligned) {
  const PackPlace place(packs, pack);
  if (!place.is_inside) return;
  const RowStream stream = stream_of(rows, place.row);
  T numbers[pack];
  draw<Law>(stream, place.first, numbers);
  store_pack(numbers, out + place.row * packs.count + place.first, packs.count - place.first,
             aligned);
}

template <class Law, class T>
cudaError_t fill_rows(const Rows& rows, std::size_t count, T* out, cudaStream_t stream) {
  constexpr int pack = pack_size<T>;
  const RowPacks packs(rows.count, count, pack);
  return launch(&fill<Law, pack, T>, {{packs.blocks()}, dim3(pack_threads), 0, stream}, rows, packs,
                out, has_aligned_packs(out, count, pack));
}

}  // namespace

cudaError_t random_bits(const Rows& rows, std::size_t count, std::uint64_t* out,
                        cudaStream_t stream) {
  return fill_rows<BitsLaw>(rows, count, out, stream);
}

template <class T>
cudaError_t random_numbers(RandomLaw law, const Rows& rows, std::size_t count, T* out,
                           cudaStream_t stream) {
  switch (law) {
    case RandomLaw::uniform: return fill_rows<UniformLaw>(rows, count, out, stream);
    case RandomLaw::exponential: return fill_rows<ExponentialLaw>(rows, count, out, stream);
    case RandomLaw::gumbel: return fill_rows<GumbelLaw>(rows, count, out, stream);
    case RandomLaw::normal: return fill_rows<NormalLaw>(rows, count, out, stream);
  }
  return cudaErrorInvalidValue;
}

template cudaError_t random_numbers(RandomLaw, const Rows&, std::size_t, float*, cudaStream_t);
template cudaError_t random_numbers(RandomLaw, const Rows&, std::size_t, double*, cudaStream_t);

}  // namespace logitkit::cuda
