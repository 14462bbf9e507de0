"""The transformer of the mask decoder: prompt tokens and image tokens attend to each other.

An image has L = 4096 tokens and an object about T = 8, and every object has image tokens of its own after the first
block. So the cost of decoding is the work on image tokens, and cross attention here does less of it than its definition
says, with the same result; :class:`CrossAttention` gives the identities.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn


class Attention(nn.Module):
    """Multi-head attention that may work in fewer dimensions than its input has."""

    def __init__(self, dim: int, num_heads: int, downsample_rate: int = 1) -> None:
        super().__init__()
        inner_dim = dim // downsample_rate
        self.num_heads = num_heads
        self.q_proj = nn.Linear(dim, inner_dim)
        self.k_proj = nn.Linear(dim, inner_dim)
        self.v_proj = nn.Linear(dim, inner_dim)
        self.out_proj = nn.Linear(inner_dim, dim)

    def forward(
        self,
        q: Float[Tensor, "#P Q C"],
        k: Float[Tensor, "#P K C"],
        v: Float[Tensor, "#P K C"],
        attend: Bool[Tensor, "P K"] | Float[Tensor, "P K"] | None = None,
    ) -> Float[Tensor, "P Q C"]:
        """Attend with each query to the keys that ``attend`` allows, or with its numbers added to the scores."""
        q, k, v = (self._heads(proj(x)) for proj, x in ((self.q_proj, q), (self.k_proj, k), (self.v_proj, v)))
        mask = None if attend is None else attend[:, None, None, :]
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.out_proj(out.transpose(1, 2).flatten(2))

    def _heads(self, x: Float[Tensor, "P N I"]) -> Float[Tensor, "P H N d"]:
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


class CrossAttention(Attention):
    """Attention between few tokens and many image tokens, which are not projected where projecting costs more.

    With W_q, W_k, W_v of one head and its part W_o of the output projection, token t and image token x:

    - Scores: (W_q t + b_q)·(W_k x + b_k) = (W_kᵀ (W_q t + b_q))·x + a constant of t. Where tokens are the queries,
      softmax runs over x and the constant cancels. Where image tokens are, (W_q x + b_q)·k = (W_qᵀ k)·x + b_q·k, and
      b_q·k stays.
    - Values: attention weights a sum to one, so Σ a (W_v x + b_v) = W_v (Σ a x) + b_v where tokens are the queries, and
      W_o Σ a v + b_o = Σ a (W_o v) + b_o where image tokens are.

    Each image token is then multiplied with H·T vectors of C numbers instead of the I rows of a projection. With tokens
    as queries this form is used while it is less work, H·T <= I; with image tokens as queries up to H·T = 2·I, since
    fused attention is slow on so few keys in such narrow heads (float32 on one core of an AMD EPYC, forward and
    backward, H = 8: this form takes 0.52 of the time at I = 64, L = 256, T = 11 and 0.68 at I = 128, L = 4096, T = 13),
    and the attention weights, H·T for each image token, take no more memory than the projections. Where all objects
    share the image tokens (a leading axis of 1), these are projected once for all. All forms are equal up to rounding.
    """

    def token_to_image(
        self,
        tokens: Float[Tensor, "P T C"],
        image_key: Float[Tensor, "#P L C"],
        image: Float[Tensor, "#P L C"],
        similarity: Float[Tensor, "P L"] | None = None,
    ) -> Float[Tensor, "P T C"]:
        """Attend from tokens to the image; ``similarity`` is added to the scores."""
        if _is_one(image.shape[0]) and similarity is None:  # the tokens of all objects are queries to one image
            return self(tokens.flatten(0, 1)[None], image_key, image)[0].unflatten(0, tokens.shape[:2])
        if self._are_many(tokens.shape[1], self.q_proj.out_features):
            return self(tokens, image_key, image, similarity)
        query = self._absorb(self._heads(self.q_proj(tokens)), self.k_proj.weight)
        scores = query @ image_key.transpose(1, 2)
        if similarity is not None:
            scores = scores + similarity[:, None]
        seen = (scores.softmax(dim=-1) @ image).unflatten(1, (self.num_heads, -1))
        value = seen @ self.v_proj.weight.unflatten(0, (self.num_heads, -1)).mT
        return self.out_proj(value.transpose(1, 2).flatten(2) + self.v_proj.bias)

    def image_to_token(
        self,
        image: Float[Tensor, "#P L C"],
        image_query: Float[Tensor, "#P L C"],
        token_key: Float[Tensor, "P T C"],
        tokens: Float[Tensor, "P T C"],
        attend: Bool[Tensor, "P T"],
    ) -> Float[Tensor, "P L C"]:
        """Attend from the image to the tokens that ``attend`` allows, and add the result to the image tokens."""
        if self._are_many(tokens.shape[1], 2 * self.q_proj.out_features):
            return image + self(image_query, token_key, tokens, attend)
        key = self._heads(self.k_proj(token_key))
        hidden = torch.zeros_like(attend, dtype=key.dtype).masked_fill(~attend, -torch.inf)[:, None, :, None]
        if _is_one(image.shape[0]):
            query = self._heads(self.q_proj(image_query))[0]  # (H, L, d): one image asks the keys of all objects
            scores = (key.transpose(0, 1).flatten(1, 2) * key.shape[-1] ** -0.5) @ query.mT
            scores = scores.unflatten(1, tokens.shape[:2]).transpose(0, 1) + hidden
        else:
            bias = key @ self.q_proj.bias.unflatten(0, (self.num_heads, -1, 1)) * key.shape[-1] ** -0.5 + hidden
            absorbed = self._absorb(key, self.q_proj.weight)
            scores = torch.baddbmm(bias.flatten(1, 2), absorbed, image_query.transpose(1, 2))
            scores = scores.unflatten(1, (self.num_heads, -1))
        weights = scores.softmax(dim=2).flatten(1, 2)
        # Each head's weights sum to one, so the output's bias can be divided among the heads.
        output_weight = self.out_proj.weight.unflatten(1, (self.num_heads, -1)).permute(1, 2, 0)
        value = self._heads(self.v_proj(tokens)) @ output_weight + self.out_proj.bias / self.num_heads
        return torch.baddbmm(image.expand(tokens.shape[0], -1, -1), weights.transpose(1, 2), value.flatten(1, 2))

    def _are_many(self, num_tokens: int | torch.SymInt, width: int) -> bool:
        """Return whether so many tokens cost less as they are; in an export, whose number varies, they are absorbed."""
        return isinstance(num_tokens, int) and self.num_heads * num_tokens > width

    def _absorb(self, heads: Float[Tensor, "P H T d"], weight: Float[Tensor, "I C"]) -> Float[Tensor, "P HT C"]:
        """Return the vectors whose products with image tokens are the scaled scores."""
        scaled = heads * heads.shape[-1] ** -0.5
        return (scaled @ weight.unflatten(0, (self.num_heads, -1))).flatten(1, 2)


def _is_one(length: int | torch.SymInt) -> bool:
    """Return whether a length is one; in an export, lengths that vary are no whole numbers and are not asked."""
    return isinstance(length, int) and length == 1


class TwoWayAttentionBlock(nn.Module):
    """Self-attention of the tokens, attention from tokens to image, an MLP, and attention from image to tokens."""

    def __init__(self, dim: int, num_heads: int, mlp: nn.Module, is_first: bool) -> None:
        super().__init__()
        self.self_attn = Attention(dim, num_heads)
        self.norm1 = nn.LayerNorm(dim)
        self.cross_attn_token_to_image = CrossAttention(dim, num_heads, downsample_rate=2)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = mlp
        self.norm3 = nn.LayerNorm(dim)
        self.norm4 = nn.LayerNorm(dim)
        self.cross_attn_image_to_token = CrossAttention(dim, num_heads, downsample_rate=2)
        self.is_first = is_first

    def forward(
        self,
        tokens: Float[Tensor, "P T C"],
        image: Float[Tensor, "#P L C"],
        token_position: Float[Tensor, "P T C"],
        image_position: Float[Tensor, "1 L C"],
        attend: Bool[Tensor, "P T"],
        similarity: Float[Tensor, "P L"] | None,
    ) -> tuple[Float[Tensor, "P T C"], Float[Tensor, "P L C"]]:
        """Return tokens and image tokens after the block; arguments as in :meth:`TwoWayTransformer.forward`."""
        if self.is_first:  # the tokens are still equal to their position encoding
            tokens = self.self_attn(tokens, tokens, tokens, attend)
        else:
            query = tokens + token_position
            tokens = tokens + self.self_attn(query, query, tokens, attend)
        tokens = self.norm1(tokens)
        placed = image + image_position
        seen = self.cross_attn_token_to_image.token_to_image(tokens + token_position, placed, image, similarity)
        tokens = self.norm2(tokens + seen)
        tokens = self.norm3(tokens + self.mlp(tokens))
        image = self.cross_attn_image_to_token.image_to_token(image, placed, tokens + token_position, tokens, attend)
        return tokens, self.norm4(image)


class TwoWayTransformer(nn.Module):
    """Blocks of two-way attention and a last attention from the tokens to the image (SAM, figure 14)."""

    def __init__(self, depth: int, dim: int, num_heads: int, mlp: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.layers = nn.ModuleList(TwoWayAttentionBlock(dim, num_heads, mlp(), index == 0) for index in range(depth))
        self.final_attn_token_to_image = CrossAttention(dim, num_heads, downsample_rate=2)
        self.norm_final_attn = nn.LayerNorm(dim)

    def forward(
        self,
        tokens: Float[Tensor, "P T C"],
        image: Float[Tensor, "#P L C"],
        image_position: Float[Tensor, "1 L C"],
        attend: Bool[Tensor, "P T"],
        similarity: Float[Tensor, "P L"] | None = None,
        target: Float[Tensor, "P C"] | None = None,
    ) -> tuple[Float[Tensor, "P T C"], Float[Tensor, "P L C"]]:
        """Return the tokens after attending to the image, and the image tokens after attending to the prompts.

        Args:
            tokens: Output tokens and embedded prompts; also used as their position encoding.
            image: Image tokens, row by row: of each object's image, or of one image that all objects are on.
            image_position: Position encoding of the image tokens.
            attend: Which tokens may be attended to.
            similarity: Added to the scores of each block's attention from tokens to image: PerSAM's target-guided
                attention (Zhang et al. 2023).
            target: Added to all tokens before each block: PerSAM's target-semantic prompting.
        """
        if target is not None:
            tokens = tokens + target[:, None]
        token_position = tokens
        for index, layer in enumerate(self.layers):
            if index > 0 and target is not None:
                tokens = tokens + target[:, None]
            tokens, image = layer(tokens, image, token_position, image_position, attend, similarity)
        seen = self.final_attn_token_to_image.token_to_image(tokens + token_position, image + image_position, image)
        return self.norm_final_attn(tokens + seen), image
