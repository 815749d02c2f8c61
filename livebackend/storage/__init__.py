"""Storage of uploaded pictures, either unchanged or re-encoded."""
